/** What `orIdle` gives when time ran out first. */
export const IDLE = Symbol('idle');

/** Waits for a promise, but no longer than `idleMs`; the promise stays good for another wait. */
export function orIdle<Value>(
  promise: Promise<Value>,
  idleMs: number,
): Promise<Value | typeof IDLE> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(IDLE), idleMs);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** An iterator whose first `next` is already under way, as something to loop over. */
export async function* continued<Value>(
  first: Promise<IteratorResult<Value>>,
  iterator: AsyncIterator<Value>,
): AsyncGenerator<Value> {
  for (let result = await first; !result.done; result = await iterator.next()) yield result.value;
}
