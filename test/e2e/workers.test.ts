import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { jsonOf, parseFrames } from '../support/edge.ts';
import {
  CHAT,
  COMPLETIONS,
  chatCases,
  completionCases,
  unsupportedCases,
  user,
} from '../support/malformed-requests.ts';
import { describeOpenAiClient, type Service } from '../support/openai-conformance.ts';
import { openTestRedis } from '../support/redis.ts';
import { openStack } from '../support/stack.ts';
import { startWorkerdEdge } from '../support/workerd-edge.ts';

/** One system, seen through an edge on Node and through one in workerd. */
interface BothEdges extends AsyncDisposable {
  readonly node: Service;
  readonly workerd: Service;
  /** Requests that a worker has begun and not ended. */
  running(): Promise<string[]>;
  /** All that were ever queued. */
  numRequests(): Promise<number>;
}

async function openBothEdges(): Promise<BothEdges> {
  const stack = new AsyncDisposableStack();
  const redis = stack.use(await openTestRedis());
  const env = { DISCONNECT_GRACE_MS: '0' };
  const [node, workerd] = await Promise.all([
    openStack({ REDIS_URL: redis.url, ...env }),
    startWorkerdEdge({ redisUrl: redis.url, env }),
  ]);
  stack.use(node);
  stack.use(workerd);
  const stateNames = () => redis.client.keys('rivulet:*:state');
  async function running(): Promise<string[]> {
    const names = await stateNames();
    const statuses = await Promise.all(names.map((name) => redis.client.hget(name, 'status')));
    return names.filter((_, i) => statuses[i] === 'running').map((name) => name.split(/[{}]/)[1]!);
  }
  const numRequests = async () => (await stateNames()).length;
  return { node, workerd, running, numRequests, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

const opening = openBothEdges();
afterAll(async () => (await opening)[Symbol.asyncDispose]());

describeOpenAiClient('the edge in workerd', async () => ({
  url: (await opening).workerd.url,
  [Symbol.asyncDispose]: async () => undefined,
}));

const body = { model: 'stories-target', prompt: 'Once upon a time', stream: true };

function generate(service: Service, fields: object, signal?: AbortSignal): Promise<Response> {
  return fetch(`${service.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...body, ...fields }),
    ...(signal === undefined ? {} : { signal }),
  });
}

async function textOf(response: Response): Promise<string> {
  const frames = parseFrames(await response.text());
  expect(frames.at(-1)?.data).toBe('[DONE]');
  return frames.map(({ data }) => data.choices?.[0]?.text ?? '').join('');
}

/** Every malformed call that can be made over HTTP, as `fetch` takes it. */
function malformedCalls(): { path: string; init: RequestInit }[] {
  const { stream: _, ...completion } = body;
  const chat = { model: body.model, ...user('hi') };
  const post = (
    path: string,
    data: string | Uint8Array<ArrayBuffer>,
    headers: Record<string, string> = {},
  ) => ({
    path,
    init: {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: data,
    },
  });
  const of = (path: string, fields: object) =>
    post(path, JSON.stringify({ ...(path === CHAT ? chat : completion), ...fields }));
  const whole = JSON.stringify(completion);
  return [
    ...completionCases.map(([fields]) => of(COMPLETIONS, fields)),
    ...chatCases.map(([fields]) => of(CHAT, fields)),
    ...unsupportedCases.map(([path, fields]) => of(path, fields)),
    ...['', whole.slice(0, -5), '[]', 'null', '['.repeat(1_000_000), '{"temperature": NaN}'].map(
      (text) => post(COMPLETIONS, text),
    ),
    post(COMPLETIONS, Uint8Array.of(0x22, 0xff, 0x22)),
    post(COMPLETIONS, whole, { 'content-type': 'text/plain' }),
    post(COMPLETIONS, whole, { 'content-encoding': 'gzip' }),
    post(COMPLETIONS, `"${'x'.repeat(8 * 1024 * 1024)}"`),
    post(COMPLETIONS, 'x'.repeat(9_000_000), { 'content-type': 'text/plain' }),
    post(COMPLETIONS, whole, { 'idempotency-key': 'x'.repeat(256) }),
    post('/v1/complete', whole),
    { path: COMPLETIONS, init: {} },
    { path: '/v1/requests/none', init: {} },
    { path: '/v1/requests/none/events', init: { headers: { 'last-event-id': 'x' } } },
  ];
}

/** What a client sees of an answer, but for ids and times. */
async function visible(url: string, { path, init }: { path: string; init: RequestInit }) {
  const response = await fetch(url + path, init);
  const names = ['content-type', 'allow', 'retry-after', 'access-control-allow-origin'];
  const headers = names.map((name) => response.headers.get(name));
  return { status: response.status, headers, body: await response.text() };
}

describe('the edge in workerd', () => {
  let node: Service;
  let workerd: Service;
  beforeAll(async () => {
    ({ node, workerd } = await opening);
  });

  const statusOf = async (id: string) =>
    (await jsonOf(await fetch(`${node.url}/v1/requests/${id}`))).status;

  it('refuses whatever is malformed as Node does, and queues none of it', async () => {
    const { numRequests } = await opening;
    const numBefore = await numRequests();
    const calls = malformedCalls();
    expect(calls.length).toBeGreaterThan(100);

    for (const call of calls) {
      const answer = await visible(workerd.url, call);
      expect(answer.status).toBeGreaterThanOrEqual(400);
      expect(answer.status).toBeLessThan(500);
      expect(answer).toEqual(await visible(node.url, call));
    }
    expect(await numRequests()).toBe(numBefore);
  });

  it('gives 64 streams at once the bytes that Node gives them', async () => {
    const tell = async (service: Service) =>
      Promise.all(
        Array.from({ length: 64 }, async (_, seed) =>
          textOf(await generate(service, { seed, max_tokens: 24 })),
        ),
      );
    const texts = await tell(workerd);

    expect(new Set(texts).size).toBeGreaterThan(32);
    expect(texts).toEqual(await tell(node));
  });

  it.each([true, false])('cancels when its client goes away (stream: %s)', async (stream) => {
    const leaving = new AbortController();
    const endless = { ignore_eos: true, n: 8, max_tokens: 500, stream };
    const answer = generate(workerd, endless, leaving.signal);
    const { running } = await opening;
    const [id = ''] = await vi.waitUntil(async () => {
      const ids = await running();
      return ids.length > 0 && ids;
    }, 20_000);
    leaving.abort();
    await expect(answer.then((response) => response.text())).rejects.toThrow();

    await expect.poll(() => statusOf(id), { timeout: 10_000 }).toBe('cancelled');
  });

  it.each([
    { first: 'node', second: 'workerd' },
    { first: 'workerd', second: 'node' },
  ] as const)('lets a stream begun on $first go on on $second', async ({ first, second }) => {
    const edges = { node, workerd };
    const leaving = new AbortController();
    const fields = { seed: 5, max_tokens: 60, on_disconnect: 'continue' };
    const whole = parseFrames(await (await generate(edges[first], fields)).text());

    const response = await generate(edges[first], fields, leaving.signal);
    const id = response.headers.get('x-request-id');
    let read = '';
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      read += chunk;
      if (read.split('\n\n').length > 5) break;
    }
    const begun = parseFrames(read.slice(0, read.lastIndexOf('\n\n')));
    const rest = await fetch(`${edges[second].url}/v1/requests/${id}/events`, {
      headers: { 'last-event-id': begun.at(-1)?.id ?? '' },
    });

    const all = [...begun, ...parseFrames(await rest.text())];
    const textOfFrames = (frames: typeof all) =>
      frames.map(({ data }) => data.choices?.[0]?.text ?? '').join('');
    expect(begun.length).toBeLessThan(all.length);
    expect(textOfFrames(all)).toBe(textOfFrames(whole));
    expect(all.at(-1)?.data).toBe('[DONE]');
  });
});
