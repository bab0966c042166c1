import { pause } from './client.ts';

const POLL_MS = 500;

/**
 * Requests whose clients went away for good, and that are at work all the same once everybody had
 * the time to notice.
 */
export async function countOrphans(
  edgeUrl: string,
  requestIds: readonly string[],
  patienceMs: number,
): Promise<number> {
  const deadlineMs = performance.now() + patienceMs;
  let rest = requestIds;
  for (;;) {
    const isAtWork = await Promise.all(rest.map((id) => isRunning(edgeUrl, id)));
    rest = rest.filter((_, i) => isAtWork[i]);
    if (rest.length === 0 || performance.now() > deadlineMs) break;
    await pause(POLL_MS);
  }
  for (const id of rest) console.log(`nobody reads it, and it goes on: ${id}`);
  return rest.length;
}

async function isRunning(edgeUrl: string, id: string): Promise<boolean> {
  const response = await fetch(`${edgeUrl}/v1/requests/${id}`).catch(() => null);
  if (response?.status === 404) return false;
  const answer: unknown = response?.ok ? await response.json().catch(() => null) : null;
  const status = typeof answer === 'object' && answer && 'status' in answer && answer.status;
  return status === false || status === 'queued' || status === 'running';
}
