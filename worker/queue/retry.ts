import type { ScriptHost } from '../../shared/protocol/request-scripts.ts';
import type { Log } from '../telemetry/log.ts';
import type { RedisClient } from './connection.ts';

/** What Redis says while it starts, fails over or is short of memory: not now, but later. */
const PASSING =
  /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|MISCONF|OOM|BUSY|UNBLOCKED) /;

const RETRY_MS = 200;

/** Runs `call` until Redis is able to; a connection that was closed for good ends it. */
export async function whenAble<T>(log: Log, call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof Error) || !isPassing(error)) throw error;
      log.warn('redis_not_able', { reason: error.message });
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

function isPassing(error: Error): boolean {
  return PASSING.test(error.message) || error.message.startsWith('Failed to refresh slots cache');
}

/** Every script may be sent again (scripts.ts), so here each is until it got through. */
export function retryingHost(client: RedisClient, log: Log): ScriptHost {
  return {
    evalsha: (sha1, numKeys, ...args) =>
      whenAble(log, () => client.evalsha(sha1, numKeys, ...args)),
    eval: (lua, numKeys, ...args) => whenAble(log, () => client.eval(lua, numKeys, ...args)),
  };
}
