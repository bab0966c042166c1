import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';

export interface Received {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly atMs: number;
}

/** Answers one delivery; what it does not answer hangs. */
export type Respond = (received: Received, response: ServerResponse) => void;

export interface Receiver extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly received: readonly Received[];
  /** Answers otherwise from now on. */
  respond: Respond;
}

/** A receiver of webhooks on loopback that keeps what it got. */
export async function openReceiver(
  respond: Respond = ok,
  host = '127.0.0.1',
  port = 0,
): Promise<Receiver> {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    void take(request, response);
  });
  async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const headers = Object.fromEntries(
      Object.entries(request.headers).map(([name, value]) => [name, String(value)]),
    );
    const body = await text(request).catch(() => null);
    if (body === null) return;
    const each = { path: request.url ?? '', headers, body, atMs: Date.now() };
    received.push(each);
    receiver.respond(each, response);
  }
  server.listen(port, host);
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const receiver: Receiver = {
    url: `http://${host}:${address.port}/hook`,
    port: address.port,
    received,
    respond,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
  return receiver;
}

export const ok: Respond = (_received, response) => void response.writeHead(204).end();

export function answering(status: number, headers: Record<string, string> = {}): Respond {
  return (_received, response) => void response.writeHead(status, headers).end(`status ${status}`);
}

export const hanging: Respond = () => undefined;

export const dropping: Respond = (_received, response) => void response.destroy();
