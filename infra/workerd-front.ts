import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { describeListenFailure } from '../edge/listen-failure.ts';

export interface WorkerdFront extends AsyncDisposable {
  readonly port: number;
}

export interface WorkerdFrontOptions {
  /** 0 for any that is free. */
  readonly port: number;
  readonly hostname: string;
  /** Where workerd listens, on the loopback interface. */
  readonly workerdPort: number;
}

/** A client that still sends when it has been answered gets so long to read the answer. */
const LINGER_MS = 2000;

/**
 * Passes connections on to workerd, and a client's close as a reset. A workerd that has nothing to
 * write yet notices nothing less; on Cloudflare the network in front of it says when a client goes
 * away.
 *
 * @throws {Error} saying what to do when the port is taken
 */
export async function openWorkerdFront(options: WorkerdFrontOptions): Promise<WorkerdFront> {
  const { port, hostname, workerdPort } = options;
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (client) => {
    sockets.add(client);
    client.on('close', () => sockets.delete(client));
    passOn(client, connect({ port: workerdPort, host: '127.0.0.1', noDelay: true }));
  });
  server.listen(port, hostname);
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw new Error(describeListenFailure(cause, `${hostname}:${port}`), { cause });
  }
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    async [Symbol.asyncDispose]() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function passOn(client: Socket, upstream: Socket): void {
  for (const socket of [client, upstream]) socket.on('error', () => undefined); // it closes, too
  client.on('end', () => upstream.resetAndDestroy());
  client.on('close', () => upstream.resetAndDestroy());
  upstream.on('close', () => {
    // Closed with bytes unread, a socket would be reset, and what was written last be lost.
    client.end();
    client.resume();
    const timer = setTimeout(() => client.destroy(), LINGER_MS);
    client.on('close', () => clearTimeout(timer));
  });
  client.pipe(upstream, { end: false });
  upstream.pipe(client, { end: false });
}
