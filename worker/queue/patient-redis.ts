import type { ScriptHost } from '../../shared/protocol/request-scripts.ts';
import type { Log } from '../telemetry/log.ts';
import type { RedisClient } from './connection.ts';

/** What Redis says while it starts, fails over or is short of memory: not now, but later. */
const PASSING =
  /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|MISCONF|OOM|BUSY|UNBLOCKED) /;

const RETRY_MS = 200;

/**
 * Redis as a worker asks it: what it cannot do now is asked again until it can. So whatever is
 * asked must bear to be done twice.
 */
export class PatientRedis implements ScriptHost {
  readonly #client: RedisClient;
  readonly #log: Log;

  constructor(client: RedisClient, log: Log) {
    this.#client = client;
    this.#log = log;
  }

  /** @throws {Error} what Redis refuses for good; anything once we closed the connection */
  async ask<T>(call: (client: RedisClient) => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await call(this.#client);
      } catch (error) {
        if (!(error instanceof Error) || !this.#isPassing(error)) throw error;
        this.#log.warn('redis_not_able', { reason: error.message });
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  /** Every script may be sent again (scripts.ts), so here each is until it got through. */
  evalsha(...args: Parameters<ScriptHost['evalsha']>): Promise<unknown> {
    return this.ask((client) => client.evalsha(...args));
  }

  eval(...args: Parameters<ScriptHost['eval']>): Promise<unknown> {
    return this.ask((client) => client.eval(...args));
  }

  /** What is no answer of Redis is the connection's, which comes back unless we closed it. */
  #isPassing({ name, message }: Error): boolean {
    if (name === 'ReplyError') return PASSING.test(message);
    return name !== 'TypeError' && this.#client.status !== 'end';
  }
}
