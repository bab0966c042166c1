import { loadWorkersConfig } from '../config.ts';
import { HubService } from './hub-service.ts';
import { unavailable } from './reach.ts';
import { openRedisTransport, type RedisTransport } from './redis-transport.ts';

export interface HubBindings {
  readonly REDIS_URL: string;
}

/** Connections that nobody has used for this long are closed: an object without any can be put away. */
const IDLE_MS = 10_000;

/**
 * The Durable Object that holds one command and one subscriber connection, and lends them to the requests
 * that it is asked for. On Workers a socket belongs to the request that opened it; an object's are its own,
 * for as long as it lives.
 *
 * It has no connections until a call needs them, and closes them `IDLE_MS` after the last call has ended.
 */
export class Hub implements DurableObject {
  readonly #redisUrl: string;
  readonly #maxQueued: number;
  readonly #service: HubService;
  #transport: Promise<RedisTransport> | null = null;
  #idleTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(_state: DurableObjectState, bindings: HubBindings) {
    this.#redisUrl = bindings.REDIS_URL;
    this.#maxQueued = loadWorkersConfig(bindings).maxQueued;
    this.#service = new HubService({
      connect: () => this.#connect(),
      onIdle: () => {
        this.#idleTimer = setTimeout(() => this.#disconnect(), IDLE_MS);
      },
    });
  }

  fetch(request: Request): Promise<Response> {
    clearTimeout(this.#idleTimer);
    return this.#service.serve(request);
  }

  /** One attempt for all who wait for it; the next call makes another if it fails. */
  #connect(): Promise<RedisTransport> {
    const options = { maxQueued: this.#maxQueued };
    this.#transport ??= openRedisTransport(this.#redisUrl, options).catch((cause: unknown) => {
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
}
