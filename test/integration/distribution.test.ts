import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SamplingParams } from '../../shared/protocol/job.ts';
import { openModel } from '../../worker/model/open-model.ts';
import type { ModelRunner } from '../../worker/model/runner.ts';
import type { ProposerName } from '../../worker/speculative/proposer.ts';
import { randomTensors, writeCheckpoint } from '../support/checkpoints.ts';
import { chiSquareP } from '../support/chi-square.ts';
import { temporaryDirectory } from '../support/directories.ts';
import { EngineDriver, engineJob } from '../support/engine-driver.ts';
import { HostCache } from '../support/host-cache.ts';
import { createSpeculator } from '../support/model-pair.ts';
import { PLAIN_PARAMS, plainDistribution } from '../support/plain-sampling.ts';
import { draftedTokens, outcomeOf } from '../support/speculation-cases.ts';

const VOCAB_SIZE = 7;
/** Tokens drawn: three that are counted, and one more, so that the third may still be drafted. */
const NUM_TOKENS = 4;
const NUM_SAMPLES = 100_000;
/** Requests that are in the engine at once. */
const WAVE_SIZE = 1000;
const prompt = [3, 1, 4, 1];

const config = {
  architectures: ['LlamaForCausalLM'],
  vocab_size: VOCAB_SIZE,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  hidden_act: 'silu',
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  tie_word_embeddings: false,
};

interface Drawing {
  readonly proposer: ProposerName;
  readonly numDraftTokens: number;
  readonly params: Partial<SamplingParams>;
  /** What the requests say that they expect. */
  readonly prediction?: number[];
}

const DRAWINGS: readonly Drawing[] = [
  { proposer: 'draft', numDraftTokens: 2, params: { temperature: 1 } },
  {
    proposer: 'staged',
    numDraftTokens: 2,
    params: { temperature: 0.7, topP: 0.9, frequencyPenalty: 0.4, repetitionPenalty: 1.3 },
  },
  {
    proposer: 'prediction',
    numDraftTokens: 2,
    params: { temperature: 1.3, minP: 0.1, presencePenalty: 0.5, logitBias: [[2, 1]] },
    prediction: [2, 5, 1, 2, 3, 2, 6, 2, 4, 2],
  },
];

const directory = temporaryDirectory();

function openRandom(seed: number) {
  const modelDir = join(directory, String(seed));
  writeCheckpoint(modelDir, config, randomTensors(config, seed));
  return openModel({
    modelDir,
    cacheDir: join(directory, 'cache'),
    executionProvider: 'cpu',
    weightFormat: 'fp32',
    numThreads: 1,
  });
}

/** Every three tokens that may follow the prompt. */
const triples = Array.from({ length: VOCAB_SIZE ** 3 }, (_, i) => [
  Math.floor(i / VOCAB_SIZE ** 2),
  Math.floor(i / VOCAB_SIZE) % VOCAB_SIZE,
  i % VOCAB_SIZE,
]);

const indexOf = ([a, b, c]: readonly number[]) => (a! * VOCAB_SIZE + b!) * VOCAB_SIZE + c!;

/** The exact probability of each of `triples`. */
async function jointProbabilities(runner: ModelRunner, params: SamplingParams): Promise<number[]> {
  const numRows = triples.length / VOCAB_SIZE;
  const cache = new HostCache(runner.shape, { numRows, frozenCapacity: 64 });
  const begins = Array.from({ length: numRows }, (_, i) => triples[i * VOCAB_SIZE]!.slice(0, 2));
  const logits = await cache.read(
    runner,
    begins.map((begin) => [...prompt, ...begin]),
  );
  return triples.map((triple, i) => {
    const rows = logits[Math.floor(i / VOCAB_SIZE)]!.slice(-3);
    return triple.reduce((product, tokenId, k) => {
      const history = { promptTokenIds: prompt, outputTokenIds: triple.slice(0, k) };
      return product * plainDistribution([...rows[k]!], params, history)[tokenId]!;
    }, 1);
  });
}

describe('the first three tokens, drafted by a model that disagrees', () => {
  let target: ModelRunner;
  let draft: ModelRunner;
  beforeAll(async () => {
    target = (await openRandom(1)).runner;
    draft = (await openRandom(2)).runner;
  });
  afterAll(() => Promise.all([target.close(), draft.close()]));

  function openEngine({ proposer, numDraftTokens }: Drawing): EngineDriver {
    const maxSequences = 64;
    const options = { proposer, numDraftTokens, maxSequences, outputs: null };
    const context = {
      tokenBytes: () => new Uint8Array(),
      numLeadingSpaces: 0,
      describe: () => ({ text: '', bytes: [] }),
      eosTokenIds: [],
      maxSequenceTokens: 64,
      now: () => 0,
    };
    return new EngineDriver({
      served: { runner: target, context },
      maxSequences,
      maxBatchedTokens: 1024,
      speculator: createSpeculator(draft, options),
    });
  }

  /**
   * Draws with the seeds from 0 on. @returns how often each of `triples` came, and the acceptance
   * rate
   */
  async function draw(drawing: Drawing, sampling: SamplingParams) {
    const driver = openEngine(drawing);
    const counts = triples.map(() => 0);
    let numDrafted = 0;
    let numAccepted = 0;
    for (let first = 0; first < NUM_SAMPLES; first += WAVE_SIZE) {
      const jobs = Array.from({ length: WAVE_SIZE }, (_, i) =>
        engineJob({
          prompts: [prompt],
          sampling: { ...sampling, seed: first + i },
          maxTokens: NUM_TOKENS,
          speculation: 'auto',
          prediction: drawing.prediction ?? null,
        }),
      );
      for (const job of jobs) driver.start(job);
      await driver.finish();
      for (const job of jobs) {
        counts[indexOf(outcomeOf(driver, job).tokenIds)]! += 1;
        const { accepted, rejected } = draftedTokens(driver, job);
        numAccepted += accepted;
        numDrafted += accepted + rejected;
        driver.release(job.id);
      }
    }
    return { counts, acceptanceRate: numAccepted / numDrafted };
  }

  it.each(DRAWINGS)('come as often as the target says: by $proposer, $params', async (drawing) => {
    const sampling = { ...PLAIN_PARAMS, ...drawing.params };
    const probabilities = await jointProbabilities(target, sampling);
    const { counts, acceptanceRate } = await draw(drawing, sampling);

    const cells = counts.map((observed, i) => ({
      observed,
      expected: NUM_SAMPLES * probabilities[i]!,
    }));
    expect(chiSquareP(cells)).toBeGreaterThan(0.001 / DRAWINGS.length);
    expect(acceptanceRate).toBeGreaterThan(0.1);
    expect(acceptanceRate).toBeLessThan(0.9);
  });
});
