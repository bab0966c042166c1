import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** A TCP relay on loopback whose connections can be cut or held up. */
export interface Relay extends AsyncDisposable {
  readonly port: number;
  /** Resets every connection that is open now. */
  cut(): void;
  /** Passes nothing more on over the connections that are open now, and tells nobody. */
  swallow(): void;
  /** Holds back what arrives within the next `ms`, in both directions, until they have passed. */
  delay(ms: number): void;
}

/** @param target port on loopback that connections are relayed to */
export async function openRelay(target: number): Promise<Relay> {
  const sockets = new Set<Socket>();
  const swallowed = new WeakSet<Socket>();
  let heldUntilMs = 0;

  function relay(from: Socket, to: Socket): void {
    from.on('data', (data) => {
      if (swallowed.has(from)) return;
      const restMs = heldUntilMs - performance.now();
      if (restMs <= 0) {
        to.write(data);
        return;
      }
      from.pause();
      setTimeout(() => {
        to.write(data);
        from.resume();
      }, restMs);
    });
    from.on('close', () => {
      sockets.delete(from);
      if (!swallowed.has(from)) to.destroy();
    });
    from.on('error', () => to.destroy());
  }

  const server = createServer((client) => {
    const upstream = connect(target, '127.0.0.1');
    for (const socket of [client, upstream]) {
      socket.setNoDelay(true);
      sockets.add(socket);
    }
    relay(client, upstream);
    relay(upstream, client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port to listen on');

  function cut(): void {
    for (const socket of sockets) socket.resetAndDestroy();
  }
  return {
    port: address.port,
    cut,
    swallow() {
      for (const socket of sockets) swallowed.add(socket);
    },
    delay(ms) {
      heldUntilMs = Math.max(heldUntilMs, performance.now() + ms);
    },
    async [Symbol.asyncDispose]() {
      server.close();
      cut();
      await once(server, 'close');
    },
  };
}
