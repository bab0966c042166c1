import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { send } from '../../../worker/webhooks/send.ts';

const read = (name: string) =>
  readFileSync(new URL(`../../fixtures/tls/${name}`, import.meta.url), 'utf8');
const cert = read('receiver-cert.pem');
const names: string[] = [];
const options = {
  key: read('receiver-key.pem'),
  cert,
  SNICallback(name: string, done: (error: null) => void) {
    names.push(name);
    done(null);
  },
};
const server = createServer(options, (request, response) => {
  response.end(request.headers.host);
});
let port = 0;

beforeAll(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  port = typeof address === 'object' && address !== null ? address.port : 0;
});
afterAll(() => void server.close());

function post(hostname: string, ca?: string) {
  const options = {
    resolve: async () => [{ address: '127.0.0.1', family: 4 }],
    isInsecureAllowed: true,
    timeoutMs: 5000,
    ...(ca !== undefined && { ca }),
  };
  return send({ url: `https://${hostname}:${port}/`, headers: {}, body: '{}' }, options);
}

describe('send over TLS', () => {
  it('asks the checked address for the certificate of the name, and tells it the name', async () => {
    expect(await post('hooks.example', cert)).toMatchObject({
      status: 200,
      answer: `hooks.example:${port}`,
    });
    expect(names).toEqual(['hooks.example']);
  });

  it('sends nothing to who has a certificate of another name', async () => {
    const outcome = await post('other.example', cert);
    expect(outcome).toMatchObject({ status: null, error: expect.stringContaining('altnames') });
  });

  it('sends nothing to who has a certificate that nobody vouches for', async () => {
    expect(await post('hooks.example')).toMatchObject({
      status: null,
      error: expect.stringContaining('self-signed certificate'),
    });
  });
});
