import { HubService } from './hub-service.ts';
import { unavailable } from './reach.ts';
import { openRedisTransport, type RedisTransport } from './redis-transport.ts';

export interface HubConfig {
  readonly redisUrl: string;
  readonly maxQueued: number;
  readonly retentionMs: number;
  /**
   * Connections that nobody has used for this long are closed: an object without any can be put
   * away.
   */
  readonly idleMs: number;
}

/** The class of Durable Objects with this configuration; workerd makes the objects. */
export function createHubClass({ redisUrl, idleMs, ...options }: HubConfig) {
  /**
   * Holds one command and one subscriber connection, and lends them to the requests that it is
   * asked for. On Workers a socket belongs to the request that opened it; an object's are its own,
   * for as long as it lives.
   *
   * It has no connections until a call needs them, and closes them `idleMs` after the last call has
   * ended.
   */
  return class Hub implements DurableObject {
    readonly #service = new HubService({
      connect: () => this.#connect(),
      onIdle: () => {
        this.#idleTimer = setTimeout(() => this.#disconnect(), idleMs);
      },
    });
    #transport: Promise<RedisTransport> | null = null;
    #idleTimer: ReturnType<typeof setTimeout> | undefined;

    fetch(request: Request): Promise<Response> {
      clearTimeout(this.#idleTimer);
      return this.#service.serve(request);
    }

    /** One attempt for all who wait for it; the next call makes another if it fails. */
    #connect(): Promise<RedisTransport> {
      this.#transport ??= openRedisTransport(redisUrl, options).catch((cause: unknown) => {
        this.#transport = null;
        throw unavailable('the queue cannot be reached', cause);
      });
      return this.#transport;
    }

    #disconnect(): void {
      const transport = this.#transport;
      this.#transport = null;
      void transport?.then((open) => open[Symbol.asyncDispose]());
    }
  };
}
