import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { jsonOf, parseFrames } from '../support/edge.ts';
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
  async function running(): Promise<string[]> {
    const names = await redis.client.keys('rivulet:*:state');
    const statuses = await Promise.all(names.map((name) => redis.client.hget(name, 'status')));
    return names.filter((_, i) => statuses[i] === 'running').map((name) => name.split(/[{}]/)[1]!);
  }
  return { node, workerd, running, [Symbol.asyncDispose]: () => stack.disposeAsync() };
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

describe('the edge in workerd', () => {
  let node: Service;
  let workerd: Service;
  beforeAll(async () => {
    ({ node, workerd } = await opening);
  });

  const statusOf = async (id: string) =>
    (await jsonOf(await fetch(`${node.url}/v1/requests/${id}`))).status;

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
    const endless = { ignore_eos: true, n: 8, stream };
    const answer = generate(workerd, endless, leaving.signal);
    const { running } = await opening;
    const [id = ''] = await vi.waitUntil(async () => {
      const ids = await running();
      return ids.length > 0 && ids;
    });
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
