import type { RequestStatus } from '../../edge/transport/transport.ts';
import { eventsOfUnbegun } from '../../shared/protocol/cancelled.ts';
import { isTerminal, type LoggedEvent, type RequestEvent } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { END_STATUSES } from '../../shared/protocol/request-scripts.ts';

/** A request and its log, in memory. */
export interface Entry {
  readonly job: Job;
  readonly log: LoggedEvent[];
  readonly cancelled: AbortController;
  numReaders: number;
  numLeft: number;
  status: RequestStatus;
  epoch: number;
  readonly timesMs: { created: number; started: number | null; ended: number | null };
  /** Wakes all who wait for news of this request. */
  news: PromiseWithResolvers<void>;
}

export const FINAL: ReadonlySet<RequestStatus> = new Set(END_STATUSES);

export function appendTo(entry: Entry, event: RequestEvent): void {
  entry.log.push({ id: { epoch: Math.max(entry.epoch, 1), seq: entry.log.length }, event });
  if (event.type === 'error') entry.status = 'failed';
  if (event.type === 'done')
    entry.status = entry.cancelled.signal.aborted ? 'cancelled' : 'succeeded';
  if (isTerminal(event)) entry.timesMs.ended = Date.now();
  const { news } = entry;
  entry.news = Promise.withResolvers();
  news.resolve();
}

/** Of a request that no worker has: whoever ends it also writes its end. */
export function endUnbegun(entry: Entry, reason: 'cancelled' | 'deadline'): void {
  for (const event of eventsOfUnbegun(entry.job, reason, Date.now())) appendTo(entry, event);
  if (reason === 'deadline') entry.status = 'expired';
}

export function readLog(
  entry: Entry,
  afterSeq: number,
  signal: AbortSignal,
): AsyncIterable<LoggedEvent> {
  entry.numReaders += 1;
  let isCounted = true;
  const leave = () => {
    if (isCounted) entry.numReaders -= 1;
    isCounted = false;
  };
  signal.addEventListener('abort', leave);
  if (signal.aborted) leave();
  return (async function* () {
    yield* followLog(entry, afterSeq, signal);
    leave();
  })();
}

async function* followLog(
  entry: Entry,
  afterSeq: number,
  signal: AbortSignal,
): AsyncGenerator<LoggedEvent> {
  const aborted = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => aborted.resolve());
  for (let seq = afterSeq + 1; !signal.aborted; seq += 1) {
    while (seq >= entry.log.length && !signal.aborted && !FINAL.has(entry.status)) {
      await Promise.race([entry.news.promise, aborted.promise]);
    }
    const logged = entry.log[seq];
    if (logged === undefined || signal.aborted) return;
    yield logged;
    if (isTerminal(logged.event)) return;
  }
}
