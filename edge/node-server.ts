import { once } from 'node:events';
import { createServer } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import type { Hono } from 'hono';
import { type AppEnv, type AppOptions, createApp } from './app.ts';
import { describeListenFailure } from './listen-failure.ts';
import type { Transport } from './transport/transport.ts';

export interface ServerOptions {
  /** 0 for any that is free. */
  readonly port: number;
  readonly hostname: string;
  readonly app: Partial<Omit<AppOptions, 'shutdown' | 'onDetached'>>;
  /** Adds what only Node serves. */
  readonly extend?: (app: Hono<AppEnv>) => void;
}

/** The app, listening. */
export interface EdgeServer {
  readonly port: number;
  /**
   * Takes no more requests, waits for those there are and for what is to be done about clients that
   * left, and cuts what is left after `graceMs`.
   */
  close(graceMs: number): Promise<void>;
}

/** @throws {Error} saying what to do when the port is taken */
export async function listen(transport: Transport, options: ServerOptions): Promise<EdgeServer> {
  const cut = new AbortController();
  const detached = new Set<Promise<unknown>>();
  const onDetached = (work: Promise<unknown>) => {
    detached.add(work);
    void work.finally(() => detached.delete(work));
  };
  const app = createApp(() => transport, { ...options.app, shutdown: cut.signal, onDetached });
  options.extend?.(app);
  const server = createServer(getRequestListener(app.fetch));
  let isClosing = false;
  server.on('request', (_, response) => {
    response.on('close', () => {
      // A kept-alive connection would hold the server open for as long as its client likes.
      if (isClosing) setImmediate(() => server.closeIdleConnections());
    });
  });
  const { port, hostname } = options;
  server.listen(port, hostname);
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw new Error(describeListenFailure(cause, `${hostname}:${port}`), { cause });
  }
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    async close(graceMs) {
      isClosing = true;
      const closed = once(server, 'close');
      server.close();
      const late = Promise.withResolvers<void>();
      const timer = setTimeout(() => {
        cut.abort(); // first, so that a connection we cut is not taken for a client that left
        server.closeAllConnections();
        late.resolve();
      }, graceMs);
      await closed;
      await Promise.race([Promise.all(detached), late.promise]);
      clearTimeout(timer);
    },
  };
}
