import OpenAI from 'openai';
import { Webhook } from 'standardwebhooks';
import { Webhook as SvixWebhook } from 'svix';
import { describe, expect, it } from 'vitest';
import { toEventObject } from '../../../shared/protocol/webhook.ts';
import { signedHeaders, splitSecrets } from '../../../worker/webhooks/signature.ts';

const secret = `whsec_${Buffer.from('a secret of at least 24 bytes!').toString('base64')}`;
const next = `whsec_${Buffer.from('the secret that replaces it soon').toString('base64')}`;
const atMs = Date.now();
const event = toEventObject({
  webhookId: 'msg_batch_1_0',
  type: 'batch.completed',
  atMs,
  data: { id: 'batch_1', text: 'Lily’s 🐈' },
});
const body = JSON.stringify(event);

function headersFor(secrets: readonly string[], timestampSeconds = Math.floor(atMs / 1000)) {
  return signedHeaders({ webhookId: 'msg_batch_1_0', timestampSeconds, body }, secrets);
}

const verifiers = {
  standardwebhooks: (of: string, headers: Record<string, string>, payload: string) =>
    new Webhook(of).verify(payload, headers),
  svix: (of: string, headers: Record<string, string>, payload: string) => {
    new SvixWebhook(of).verify(payload, headers); // says nothing else
    return JSON.parse(payload);
  },
  openai: (of: string, headers: Record<string, string>, payload: string) =>
    new OpenAI({ apiKey: 'none' }).webhooks.unwrap(payload, headers, of),
};

describe('signedHeaders', () => {
  it('gives the signature of the example in the specification', () => {
    const headers = signedHeaders(
      {
        webhookId: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
        timestampSeconds: 1614265330,
        body: '{"test": 2432232314}',
      },
      ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'],
    );
    expect(headers['webhook-signature']).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
  });

  it.each(Object.entries(verifiers))('convinces %s', async (_name, verify) => {
    expect(await verify(secret, headersFor([secret]), body)).toMatchObject({
      type: 'batch.completed',
      data: { id: 'batch_1' },
    });
  });

  it.each(Object.entries(verifiers))(
    'convinces %s with either of two secrets',
    async (_, verify) => {
      const headers = headersFor([secret, next]);
      for (const of of [secret, next]) expect(await verify(of, headers, body)).toBeTruthy();
    },
  );

  it.each(Object.entries(verifiers))('does not convince %s of another body', async (_, verify) => {
    const headers = headersFor([secret]);
    await expect(async () => verify(secret, headers, `${body} `)).rejects.toThrow();
  });

  it.each(Object.entries(verifiers))(
    'does not convince %s of an old message',
    async (_, verify) => {
      const headers = headersFor([secret], Math.floor(atMs / 1000) - 600);
      await expect(async () => verify(secret, headers, body)).rejects.toThrow();
    },
  );
});

describe('splitSecrets', () => {
  it('finds one or several', () => {
    expect(splitSecrets(secret)).toEqual([secret]);
    expect(splitSecrets(` ${secret}  ${next}`)).toEqual([secret, next]);
  });
});

describe('toEventObject', () => {
  it('is an event as OpenAI writes it, and as Standard Webhooks recommends', async () => {
    const headers = headersFor([secret]);
    const heard = await new OpenAI({ apiKey: 'none' }).webhooks.unwrap(body, headers, secret);
    if (heard.type !== 'batch.completed') throw new Error(`not a batch's: ${heard.type}`);
    expect(heard).toMatchObject({ id: 'msg_batch_1_0', object: 'event' });
    expect(heard.created_at).toBe(Math.floor(atMs / 1000));
    expect(heard.data.id).toBe('batch_1');
    expect(JSON.parse(body).timestamp).toBe(new Date(atMs).toISOString());
  });
});
