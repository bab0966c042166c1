import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createRequestId, type RequestId } from '../../../shared/ids.ts';
import { YieldedRequests } from '../../../worker/queue/yielded-requests.ts';

let ended: string[] = [];
let yielded = new YieldedRequests();

beforeEach(() => {
  vi.useFakeTimers();
  ended = [];
  yielded = new YieldedRequests();
});
afterEach(() => {
  yielded[Symbol.dispose]();
  vi.useRealTimers();
});

function add(id: RequestId, deadlineMs: number | null): void {
  yielded.add({ id, deadlineMs, end: (reason) => ended.push(`${id} ${reason}`) });
}

describe('YieldedRequests', () => {
  it('ends a request at its deadline', () => {
    const [soon, later, never] = [createRequestId(), createRequestId(), createRequestId()];
    add(soon, Date.now() + 50);
    add(later, Date.now() + 90);
    add(never, null);
    vi.advanceTimersByTime(60);
    expect(ended).toEqual([`${soon} deadline`]);
    vi.advanceTimersByTime(100_000);
    expect(ended).toEqual([`${soon} deadline`, `${later} deadline`]);
    expect(yielded.ids).toEqual([never]);
  });

  it('ends at once what is past its deadline, and once only', () => {
    const id = createRequestId();
    add(id, Date.now() - 1);
    yielded.end(id, 'cancelled');
    vi.advanceTimersByTime(10);
    expect(ended).toEqual([`${id} cancelled`]);
  });

  it('ends nothing that a worker has taken, nor what it never heard of', () => {
    const id = createRequestId();
    add(id, Date.now() + 50);
    yielded.remove(id);
    yielded.end(id, 'cancelled');
    yielded.end(createRequestId(), 'cancelled');
    vi.advanceTimersByTime(100);
    expect(ended).toEqual([]);
  });
});
