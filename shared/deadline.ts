/** Timers take no more: about 25 days. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Acts once, at a time by the clock of `Date.now()`, or at once where that is over.
 *
 * @param deadlineMs `null` for never
 * @returns calls it off
 */
export function atDeadline(deadlineMs: number | null, act: () => void): () => void {
  if (deadlineMs === null) return () => undefined;
  let timer: ReturnType<typeof setTimeout>;
  function wait(atMs: number): void {
    const restMs = Math.max(atMs - Date.now(), 0);
    timer = setTimeout(
      () => (restMs > MAX_TIMER_MS ? wait(atMs) : act()),
      Math.min(restMs, MAX_TIMER_MS),
    );
  }
  wait(deadlineMs);
  return () => clearTimeout(timer);
}
