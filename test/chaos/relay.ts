import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** A TCP relay on loopback whose connections can be cut, held up, or die without a word. */
export interface Relay extends AsyncDisposable {
  readonly port: number;
  /** Resets every connection that is open now. */
  cut(): void;
  /** Holds back what arrives within the next `ms`, in both directions, until they have passed. */
  delay(ms: number): void;
  /**
   * Swallows from now on what passes on the connections that are open, as a network does that has
   * forgotten them.
   *
   * @param first of them, in the order in which they were opened
   */
  swallow(first?: number): void;
}

/** @param target port on loopback that connections are relayed to */
export async function openRelay(target: number): Promise<Relay> {
  const sockets = new Set<Socket>(); // both ends of each connection, in turns
  const forgotten = new Set<Socket>();
  let heldUntilMs = 0;

  function relay(from: Socket, to: Socket): void {
    from.on('data', (data) => {
      if (forgotten.has(from)) return;
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
      if (!forgotten.has(from)) to.destroy();
    });
    from.on('error', () => undefined); // it closes, too
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
    delay(ms) {
      heldUntilMs = Math.max(heldUntilMs, performance.now() + ms);
    },
    swallow(first = 0) {
      for (const socket of [...sockets].slice(2 * first)) forgotten.add(socket);
    },
    async [Symbol.asyncDispose]() {
      server.close();
      cut();
      await once(server, 'close');
    },
  };
}
