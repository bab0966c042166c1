import { setTimeout as sleep } from 'node:timers/promises';
import type { LoadPlan, PlannedRequest } from './plan.ts';

/** Sends one request; calls `onEvent` whenever new text is here. @returns how many tokens came */
export type Send = (request: PlannedRequest, onEvent: () => void) => Promise<number>;

/** What became of one request. Times are milliseconds from the start of the load. */
export interface Served {
  /** Its place in the plan, which a closed loop begins again when it is through. */
  readonly index: number;
  /** When it was due: an open loop does not wait for those before it. */
  readonly dueMs: number;
  readonly eventMs: readonly number[];
  readonly numTokens: number;
}

/** Puts a load on a service and waits until all is answered. */
export async function putLoad(plan: LoadPlan, send: Send): Promise<Served[]> {
  const startMs = performance.now();
  const now = () => performance.now() - startMs;
  const served: Served[] = [];

  async function serve(index: number, dueMs: number): Promise<void> {
    const eventMs: number[] = [];
    const numTokens = await send(plan.requests[index % plan.requests.length]!, () =>
      eventMs.push(now()),
    );
    served.push({ index, dueMs, eventMs, numTokens });
  }

  if (plan.closedStreams !== null) {
    let next = 0;
    const stream = async () => {
      while (now() < plan.durationMs) {
        const index = next;
        next += 1;
        await sleep(plan.requests[index % plan.requests.length]!.pauseMs);
        await serve(index, now());
      }
    };
    await Promise.all(Array.from({ length: plan.closedStreams }, stream));
    return served;
  }
  const running: Promise<void>[] = [];
  for (const [index, { atMs }] of plan.requests.entries()) {
    if (atMs > now()) await sleep(atMs - now());
    running.push(serve(index, atMs));
  }
  await Promise.all(running);
  return served;
}
