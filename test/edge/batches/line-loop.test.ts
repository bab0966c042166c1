import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { LineLoop } from '../../../edge/batches/line-loop.ts';
import type { Line } from '../../../edge/batches/lines.ts';
import { createModelCatalog } from '../../../edge/catalog.ts';
import type { Commit } from '../../../edge/transport/batches.ts';
import { toTenantId } from '../../../shared/ids.ts';
import { type Batch, batchSchema } from '../../../shared/protocol/batch.ts';
import { doneOf, FakeTransport, type Play } from '../../support/fake-transport.ts';
import { storiesCard, storiesFiles } from '../../support/stories.ts';

const endpoint = '/v1/completions';
const progress = { nextLine: 0, byteOffset: 0, numCompleted: 0, numFailed: 0 };

function batchOf(numLines: number): Batch {
  return batchSchema.parse({
    spec: {
      version: 1,
      id: `batch_${'0'.repeat(32)}`,
      tenant: toTenantId('ann'),
      inputFileId: 'file-x',
      endpoint,
      metadata: null,
      webhook: null,
      createdMs: 0,
      expiresMs: 1,
      outputLifeMs: 1,
    },
    status: 'in_progress',
    epoch: 1,
    numLines,
    progress: { ...progress, outputBytes: 0, errorBytes: 0 },
    timesMs: {},
    errors: [],
    outputFileId: null,
    errorFileId: null,
    isNotified: false,
  });
}

/** Lines with these bodies beside a model and a prompt. */
async function* linesOf(bodies: readonly object[]): AsyncGenerator<Line> {
  let end = 0;
  for (const [i, fields] of bodies.entries()) {
    const body = { model: storiesCard.name, prompt: 'Once', max_tokens: 4, ...fields };
    const text = JSON.stringify({ custom_id: `line-${i}`, method: 'POST', url: endpoint, body });
    end += text.length + 1;
    yield { number: i + 1, text, end };
  }
}

function openLoop(numLines: number, play: Play | null) {
  const transport = new FakeTransport(play);
  transport.register({ ...storiesCard, canSlide: true }, storiesFiles);
  const commits: Commit[] = [];
  const stop = new AbortController();
  const batch = batchOf(numLines);
  const loop = new LineLoop(batch, {
    transport,
    catalog: createModelCatalog(),
    window: 32,
    now: () => 0,
    log: () => undefined,
    stopped: stop.signal,
    find: async () => batch,
    async commit(commit) {
      commits.push(commit);
      return { type: 'ok', status: 'in_progress' };
    },
  });
  const results = () =>
    commits
      .flatMap(({ output, errors }) => (output + errors).split('\n'))
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  return { transport, loop, stop, results };
}

describe('LineLoop', () => {
  it('has a few lines out when they are long, and a window of short ones', async () => {
    const counts: number[] = [];
    for (const length of [1_000_000, 10]) {
      const { transport, loop, stop } = openLoop(40, null);
      const lines = Array.from({ length: 40 }, () => ({ user: 'u'.repeat(length) }));
      const running = loop.run(linesOf(lines));
      const numExpected = length === 10 ? 32 : 5;
      await vi.waitFor(() => expect(transport.submitted.length).toBe(numExpected));
      for (let i = 0; i < 50; i += 1) await turn();
      counts.push(transport.submitted.length);
      stop.abort();
      await running;
    }
    expect(counts).toEqual([5, 32]);
  });

  it('refuses a line that would never end', async () => {
    const sinks = { context_policy: 'sinks', max_tokens: null };
    const play: Play = (_, append) => {
      append({
        type: 'tokens',
        choice: 0,
        tokenIds: [1],
        text: 'a',
        logprobs: null,
        finishReason: 'stop',
      });
      append(doneOf({ promptTokens: 1, completionTokens: 1 }));
    };
    const { loop, results } = openLoop(3, play);
    await loop.run(linesOf([sinks, { ...sinks, timeout: 5 }, { ...sinks, max_tokens: 9000 }]));

    const [refused, timed, long] = results().sort((a, b) => a.custom_id.localeCompare(b.custom_id));
    expect(refused.response).toMatchObject({
      status_code: 400,
      body: { error: { param: 'max_tokens' } },
    });
    for (const { response } of [timed, long]) expect(response.status_code).toBe(200);
  });

  it('ends a line whose answer is longer than it can hold', async () => {
    const text = 'x'.repeat(9 * 1024 * 1024);
    const play: Play = (_, append) => {
      const tokens = { choice: 0, tokenIds: [1], text, logprobs: null, finishReason: null };
      for (let i = 0; i < 2; i += 1) append({ type: 'tokens', ...tokens });
    };
    const { transport, loop, results } = openLoop(1, play);
    await loop.run(linesOf([{}]));

    expect(results()).toMatchObject([
      { response: { status_code: 413, body: { error: { code: 'payload_too_large' } } } },
    ]);
    expect(transport.cancelled).toHaveLength(1);
  });
});
