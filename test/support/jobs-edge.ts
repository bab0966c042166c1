import { createTestEdge, jsonOf } from './edge.ts';

export const endpoint = '/v1/completions';
export const model = 'stories-target';
export const body = {
  model,
  prompt: 'Once upon a time',
  max_tokens: 8,
  seed: 7,
};

/** An edge whose jobs wait until the test claims them, unless it has somebody to tell stories. */
export function createJobsEdge({ isAnswering = true, ...options } = {}) {
  const clock = { now: Date.now, ...options };
  const edge = isAnswering ? createTestEdge(undefined, clock) : createTestEdge(null, clock);
  const { app, post } = edge;
  const get = async (path: string, headers: Record<string, string> = {}) => {
    const response = await app.request(path, { headers });
    return { status: response.status, headers: response.headers, body: await jsonOf(response) };
  };
  const submit = async (fields: object = {}, headers: Record<string, string> = {}) => {
    const response = await post('/v1/jobs', { endpoint, body, ...fields }, headers);
    return { status: response.status, headers: response.headers, body: await jsonOf(response) };
  };
  /** The job once it has ended. */
  const finished = async (id: string) => (await get(`/v1/jobs/${id}`, { prefer: 'wait=10' })).body;
  return { ...edge, get, submit, finished };
}
