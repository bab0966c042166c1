import { NOTHING_PUBLISHED } from '../../../shared/protocol/generation.ts';
import { createTokenizer, type Tokenizer } from '../../../shared/tokenizer.ts';
import { Drafter } from '../../../worker/engine/drafter.ts';
import { Engine } from '../../../worker/engine/engine.ts';
import { Speculator } from '../../../worker/engine/speculator.ts';
import type { WeightFormat } from '../../../worker/model/builder.ts';
import { openModel } from '../../../worker/model/open-model.ts';
import type { ModelRunner } from '../../../worker/model/runner.ts';
import { Controller } from '../../../worker/speculative/controller.ts';
import { OutputStore } from '../../../worker/speculative/output-store.ts';
import { MAX_DRAFT_TOKENS, type ProposerName } from '../../../worker/speculative/proposer.ts';
import { Rest } from '../../../worker/speculative/rest.ts';
import { type OpenedModel, toOpenedModel } from '../../../worker/thread/opened-model.ts';
import { jobOf } from '../../support/jobs.ts';

export interface PairOptions {
  readonly targetDir: string;
  readonly draftDir: string;
  readonly weightFormat: WeightFormat;
  readonly cacheDir: string;
  readonly numThreads: number;
}

export interface PassTime {
  readonly ms: number;
  /** Without the steps that gave a first token: the time of all others. */
  readonly decodeMs: number;
}

/** What one pass over some prompts took, and what it said. */
export interface Pass extends PassTime {
  /** In runs of the draft model, and their number. */
  readonly draftMs: number;
  readonly numDraftRuns: number;
  readonly numTokens: number;
  readonly outputs: readonly (readonly number[])[]; // [numPrompts]
  /** Drafted tokens, and those accepted by their place in the draft. */
  readonly numDrafts: number;
  readonly numDraftTokens: number;
  /** Drafts of which a token was not what the target chose. */
  readonly numRejected: number;
  readonly numAcceptedPerPosition: readonly number[];
}

/**
 * One way to run the target: with these proposers, or plainly. It learns from pass to pass, as a
 * worker does.
 */
export interface Mode {
  readonly name: string;
  pass(prompts: readonly (readonly number[])[], settings: PassSettings): Promise<Pass>;
}

export interface PassSettings {
  /** Lengths of answers and temperatures, of the prompts in turn. */
  readonly lengths: readonly number[];
  readonly temperatures: readonly number[];
  /** What the answers are said to be, where anything is said. */
  readonly predictions?: readonly (readonly number[])[] | undefined; // [numPrompts]
}

/** A target and its draft model, opened once for all modes. */
export class BenchPair implements AsyncDisposable {
  readonly tokenizer: Tokenizer;
  readonly target: ModelRunner;
  readonly draft: ModelRunner;
  readonly #opened: OpenedModel;

  private constructor(opened: OpenedModel, target: ModelRunner, draft: ModelRunner) {
    this.#opened = opened;
    this.target = target;
    this.draft = draft;
    this.tokenizer = createTokenizer(opened.tokenizerFiles);
  }

  static async open(options: PairOptions): Promise<BenchPair> {
    const { targetDir, draftDir, weightFormat, ...rest } = options;
    const shared = { ...rest, executionProvider: 'cpu', hasSpinningThreads: true } as const;
    const target = await openModel({ ...shared, modelDir: targetDir, weightFormat });
    const draft = await openModel({ ...shared, modelDir: draftDir, weightFormat: 'fp32' });
    return new BenchPair(toOpenedModel(target), target.runner, draft.runner);
  }

  /** @param proposers empty for plain decoding */
  mode(
    name: string,
    proposers: readonly ProposerName[],
    maxSequences: number,
    draft: ModelRunner = this.draft,
  ): Mode {
    const needsDraft = proposers.includes('draft') || proposers.includes('staged');
    const policy = new CountingController();
    const clock = new RunClock(draft);
    const speculator = new Speculator({
      policy,
      drafter: needsDraft ? new Drafter(clock.runner, maxSequences) : null,
      rest: new Rest(),
      outputs: proposers.includes('suffix') ? new OutputStore() : null,
      proposers: new Set(proposers),
      maxDraftTokens: MAX_DRAFT_TOKENS,
      now: () => performance.now(),
    });
    const { tokenizer } = this;
    // Where its memory lies makes an engine a few percent faster or slower for good: a new one for
    // every pass.
    const openEngine = () =>
      new Engine({
        runner: this.target,
        limits: { maxSequences, maxBatchedTokens: 256 },
        prefixCacheBytes: 0,
        speculator: proposers.length === 0 ? null : speculator,
        context: {
          tokenBytes: tokenizer.tokenBytes,
          numLeadingSpaces: tokenizer.numLeadingSpaces,
          describe: (tokenId) => ({ text: tokenizer.tokenText(tokenId), bytes: [] }),
          eosTokenIds: this.#opened.eosTokenIds,
          maxSequenceTokens: this.#opened.shape.maxSequenceTokens,
          now: () => performance.now(),
        },
      });
    const pass: Mode['pass'] = async (prompts, settings) => {
      policy.numRejected = 0;
      clock.reset();
      const counts = await runPass(openEngine(), prompts, settings);
      const { numRejected } = policy;
      return { ...counts, numRejected, draftMs: clock.ms, numDraftRuns: clock.numRuns };
    };
    return { name, pass };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.target.close();
    await this.draft.close();
  }
}

/** The controller, and how many drafts it saw that were not accepted whole. */
class CountingController extends Controller {
  numRejected = 0;

  override observeVerified(...[sequence, draft]: Parameters<Controller['observeVerified']>): void {
    if (draft.numAccepted < draft.numDrafted) this.numRejected += 1;
    super.observeVerified(sequence, draft);
  }
}

/**
 * Measures what runs of a model take where they are made: a small one finds its weights gone from
 * the caches.
 */
class RunClock {
  readonly runner: ModelRunner;
  ms = 0;
  numRuns = 0;

  constructor(runner: ModelRunner) {
    this.runner = {
      shape: runner.shape,
      run: async (input) => {
        const startMs = performance.now();
        const output = await runner.run(input);
        this.ms += performance.now() - startMs;
        this.numRuns += 1;
        return output;
      },
      close: () => runner.close(),
    };
  }

  reset(): void {
    this.ms = 0;
    this.numRuns = 0;
  }
}

/**
 * A draft model that costs what `runner` costs and is always wrong: its logits, the other way
 * round.
 */
export function useless(runner: ModelRunner): ModelRunner {
  const { vocabSize } = runner.shape;
  return {
    shape: runner.shape,
    async run(input) {
      const output = await runner.run(input);
      for (let start = 0; start < output.logits.length; start += vocabSize) {
        output.logits.subarray(start, start + vocabSize).reverse();
      }
      return output;
    },
    close: () => runner.close(),
  };
}

async function runPass(
  engine: Engine,
  prompts: readonly (readonly number[])[],
  { lengths, temperatures, predictions }: PassSettings,
): Promise<Omit<Pass, 'numRejected' | 'draftMs' | 'numDraftRuns'>> {
  const jobs = prompts.map((prompt, i) => {
    const temperature = temperatures[i % temperatures.length]!;
    const sampling = { ...jobOf().sampling, temperature, seed: 7 };
    const prediction = predictions?.[i] ?? null;
    return jobOf({
      prompts: [[...prompt]],
      sampling,
      maxTokens: lengths[i % lengths.length]!,
      ignoreEos: true,
      prediction: prediction && [...prediction],
    });
  });
  const outputById = new Map<string, number[]>(jobs.map(({ id }) => [id, []]));
  let [numDrafts, numDraftTokens] = [0, 0];
  const numAcceptedPerPosition: number[] = [];
  const startMs = performance.now();
  for (const job of jobs) engine.start(job, { choices: [NOTHING_PUBLISHED] });
  let decodeMs = 0;
  while (!engine.isIdle) {
    const stepStartMs = performance.now();
    await engine.step();
    const stepMs = performance.now() - stepStartMs;
    let isDecode = true;
    for (const { id, events } of engine.takeUpdates()) {
      for (const event of events) {
        if (event.type === 'tokens') {
          const output = outputById.get(id)!;
          isDecode &&= output.length > 0;
          output.push(...event.tokenIds);
        }
        if (event.type !== 'end') continue;
        for (const stats of event.speculation) {
          numDrafts += stats.numDrafts;
          numDraftTokens += stats.numDraftTokens;
          addTo(numAcceptedPerPosition, stats.numAcceptedPerPosition);
        }
      }
    }
    if (isDecode) decodeMs += stepMs;
  }
  const ms = performance.now() - startMs;
  const outputs = [...outputById.values()];
  const total = outputs.reduce((count, { length }) => count + length, 0);
  return {
    ms,
    decodeMs,
    numTokens: total,
    outputs,
    numDrafts,
    numDraftTokens,
    numAcceptedPerPosition,
  };
}

function addTo(sums: number[], values: readonly number[]): void {
  for (const [i, value] of values.entries()) sums[i] = (sums[i] ?? 0) + value;
}
