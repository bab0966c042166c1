import { describe, expect, it } from 'vitest';
import { type SendOptions, send } from '../../../worker/webhooks/send.ts';
import type { Address } from '../../../worker/webhooks/target.ts';
import { answering, dropping, hanging, openReceiver } from '../../support/receivers.ts';

const message = { headers: { 'webhook-id': 'msg_1' }, body: '{"type":"x"}' };

function optionsOf(overrides: Partial<SendOptions> = {}): SendOptions {
  const resolve = async () => [];
  return { resolve, isInsecureAllowed: true, timeoutMs: 5000, ...overrides };
}

/** A name service that answers otherwise each time, and counts. */
function changing(answers: readonly string[]) {
  const asked: string[] = [];
  const resolve = async (hostname: string): Promise<Address[]> => {
    const address = answers[Math.min(asked.length, answers.length - 1)] ?? '';
    asked.push(hostname);
    return [{ address, family: address.includes(':') ? 6 : 4 }];
  };
  return { resolve, asked };
}

describe('send', () => {
  it('posts the body as it is, with its headers', async () => {
    await using receiver = await openReceiver(answering(200));
    const outcome = await send({ ...message, url: receiver.url }, optionsOf());
    expect(outcome).toMatchObject({ status: 200, error: null, answer: 'status 200' });
    expect(receiver.received[0]).toMatchObject({ path: '/hook', body: message.body });
    expect(receiver.received[0]?.headers).toMatchObject({
      'webhook-id': 'msg_1',
      'content-type': 'application/json',
    });
  });

  it('keeps the name in the Host header when it connects to an address', async () => {
    await using receiver = await openReceiver();
    const { resolve, asked } = changing(['127.0.0.1']);
    const url = `http://hooks.example:${receiver.port}/hook`;
    expect(await send({ ...message, url }, optionsOf({ resolve }))).toMatchObject({ status: 204 });
    expect(asked).toEqual(['hooks.example']);
    expect(receiver.received[0]?.headers.host).toBe(`hooks.example:${receiver.port}`);
  });

  it('connects to the address that was checked though the name has another one by then', async () => {
    await using checked = await openReceiver(undefined, '127.0.0.1');
    await using rebound = await openReceiver(undefined, '127.0.0.2', checked.port);
    const { resolve, asked } = changing(['127.0.0.1', '127.0.0.2']);
    const url = `http://rebinding.example:${checked.port}/hook`;
    expect(await send({ ...message, url }, optionsOf({ resolve }))).toMatchObject({ status: 204 });
    expect(asked.length).toBe(1);
    expect([checked.received.length, rebound.received.length]).toEqual([1, 0]);
  });

  it('connects nowhere when the name first points inwards', async () => {
    await using receiver = await openReceiver();
    const { resolve, asked } = changing(['127.0.0.1', '93.184.216.34']);
    const url = `https://rebinding.example:${receiver.port}/hook`;
    const options = optionsOf({ resolve, isInsecureAllowed: false });
    const outcome = await send({ ...message, url }, options);
    expect(outcome.error).toBe('refused: 127.0.0.1 is not a public address');
    expect(asked.length).toBe(1);
    expect(receiver.received).toEqual([]);
  });

  it('connects nowhere when one of several addresses points inwards', async () => {
    const resolve = async () => [
      { address: '93.184.216.34', family: 4 },
      { address: '10.0.0.1', family: 4 },
    ];
    const options = optionsOf({ resolve, isInsecureAllowed: false });
    const outcome = await send({ ...message, url: 'https://x.example/' }, options);
    expect(outcome.error).toBe('refused: 10.0.0.1 is not a public address');
  });

  it.each([
    'https://127.0.0.1/',
    'https://0x7f.1/',
    'https://0177.0.0.1/',
    'https://2130706433/',
    'https://169.254.169.254/latest/meta-data/',
    'https://10.1.2.3/',
    'https://100.64.0.1/',
    'https://192.168.1.1/',
    'https://224.0.0.1/',
    'https://0.0.0.0/',
    'https://255.255.255.255/',
    'https://[::1]/',
    'https://[::]/',
    'https://[::ffff:10.0.0.1]/',
    'https://[::ffff:7f00:1]/',
    'https://[64:ff9b::7f00:1]/',
    'https://[2002:7f00:1::]/',
    'https://[fe80::1]/',
    'https://[fc00::1]/',
    'https://[ff02::1]/',
  ])('refuses %s', async (url) => {
    const { resolve, asked } = changing(['93.184.216.34']);
    const options = optionsOf({ resolve, isInsecureAllowed: false });
    const outcome = await send({ ...message, url }, options);
    expect(outcome).toMatchObject({
      status: null,
      error: expect.stringMatching(/^refused: .*not a public/),
    });
    expect(asked).toEqual([]);
  });

  it.each(['http://93.184.216.34/', 'ftp://x.example/', 'https://me:pw@x.example/', 'nonsense'])(
    'refuses %s as a URL',
    async (url) => {
      const outcome = await send({ ...message, url }, optionsOf({ isInsecureAllowed: false }));
      expect(outcome.error).toMatch(/^refused: /);
    },
  );

  it('follows no redirect', async () => {
    await using elsewhere = await openReceiver();
    await using receiver = await openReceiver(answering(307, { location: elsewhere.url }));
    expect(await send({ ...message, url: receiver.url }, optionsOf())).toMatchObject({
      status: 307,
    });
    expect(elsewhere.received).toEqual([]);
  });

  it('gives up on a receiver that hangs, or a name that does', async () => {
    await using receiver = await openReceiver(hanging);
    const options = optionsOf({ timeoutMs: 100, resolve: () => new Promise(() => undefined) });
    for (const url of [receiver.url, 'http://hanging.example/']) {
      expect((await send({ ...message, url }, options)).error).toBe('no answer in 100 ms');
    }
  });

  it('says what went wrong on a connection that drops', async () => {
    await using receiver = await openReceiver(dropping);
    const outcome = await send({ ...message, url: receiver.url }, optionsOf());
    expect(outcome).toMatchObject({ status: null, error: 'socket hang up' });
  });

  it('takes the status for the answer though its body never ends', async () => {
    await using receiver = await openReceiver(
      (_, response) => void response.writeHead(200).write('begun'),
    );
    const options = optionsOf({ timeoutMs: 300 });
    const outcome = await send({ ...message, url: receiver.url }, options);
    expect(outcome).toMatchObject({ status: 200, error: null, answer: 'begun' });
  });

  it('reads no more of an answer than its beginning', async () => {
    await using receiver = await openReceiver((_, response) => {
      response.writeHead(200);
      response.write('x'.repeat(1_000_000));
    });
    const outcome = await send({ ...message, url: receiver.url }, optionsOf());
    expect(outcome.answer.length).toBe(4096);
  });
});
