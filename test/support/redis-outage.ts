import { expect } from 'vitest';
import { jsonOf } from './edge.ts';

const STORY = { model: 'stories-target', prompt: 'Once', max_tokens: 1 };

/** What is asked of an edge, each with the body of a POST or `null`. */
const CALLS = [
  ['/v1/models', null],
  ['/v1/completions', STORY],
  ['/v1/completions', { ...STORY, stream: true }],
  ['/v1/jobs', { endpoint: '/v1/completions', body: STORY }],
  ['/readyz', null],
] as const;

/** Longer than any call may be left without an answer. */
const PATIENCE_MS = 5000;

/** Whatever an edge is asked while it has no Redis, it says at once when to come back. */
export async function expectToComeBackLater(url: string): Promise<void> {
  for (const [path, body] of CALLS) {
    const response = await fetch(`${url}${path}`, {
      signal: AbortSignal.timeout(PATIENCE_MS),
      ...(body && {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      }),
    });
    expect(response.status, path).toBe(503);
    expect(response.headers.get('retry-after'), path).toBe('1');
    expect((await jsonOf(response)).error.code, path).toBe('unavailable');
  }
}
