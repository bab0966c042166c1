import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createRequestId, type RequestId } from '../../../shared/ids.ts';
import { YieldedRequests } from '../../../worker/queue/yielded-requests.ts';

let ended: RequestId[] = [];
let yielded = new YieldedRequests((id) => ended.push(id));

beforeEach(() => {
  vi.useFakeTimers();
  ended = [];
  yielded = new YieldedRequests((id) => ended.push(id));
});
afterEach(() => {
  yielded[Symbol.dispose]();
  vi.useRealTimers();
});

describe('YieldedRequests', () => {
  it('ends a request at its deadline', () => {
    const [soon, later, never] = [createRequestId(), createRequestId(), createRequestId()];
    yielded.add(soon, Date.now() + 50);
    yielded.add(later, Date.now() + 90);
    yielded.add(never, null);
    vi.advanceTimersByTime(60);
    expect(ended).toEqual([soon]);
    vi.advanceTimersByTime(100_000);
    expect(ended).toEqual([soon, later]);
    expect(yielded.ids).toEqual([never]);
  });

  it('ends at once what is past its deadline, and once only', () => {
    const id = createRequestId();
    yielded.add(id, Date.now() - 1);
    yielded.end(id);
    vi.advanceTimersByTime(10);
    expect(ended).toEqual([id]);
  });

  it('ends nothing that a worker has taken, nor what it never heard of', () => {
    const id = createRequestId();
    yielded.add(id, Date.now() + 50);
    yielded.remove(id);
    yielded.end(id);
    yielded.end(createRequestId());
    vi.advanceTimersByTime(100);
    expect(ended).toEqual([]);
  });
});
