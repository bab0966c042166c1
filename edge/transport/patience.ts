import { PlatformError } from '../../shared/errors.ts';

/** Whoever has begun something outlives an absence of Redis of this length. */
const MAX_OUTAGE_MS = 60_000;
const RETRY_MS = 250;

/** Calls again while Redis cannot be reached, up to a limit or until `signal` aborts. */
export async function patiently<T>(call: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const giveUpMs = Date.now() + MAX_OUTAGE_MS;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const isOutage = error instanceof PlatformError && error.code === 'unavailable';
      if (!isOutage || Date.now() > giveUpMs || signal?.aborted) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}
