import { InferenceSession } from 'onnxruntime-node';
import { invariant } from '../../shared/assert.ts';
import type { RequestId, TenantId } from '../../shared/ids.ts';
import { NOTHING_PUBLISHED } from '../../shared/protocol/generation.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { createTokenizer, type Tokenizer } from '../../shared/tokenizer.ts';
import type { PrefixCacheUsage } from '../../worker/cache/prefix-cache.ts';
import { Engine } from '../../worker/engine/engine.ts';
import { openModel } from '../../worker/model/open-model.ts';
import type { ModelRunner } from '../../worker/model/runner.ts';
import { type OpenedModel, toOpenedModel } from '../../worker/thread/opened-model.ts';
import { jobOf } from '../support/jobs.ts';

/** Milliseconds of one step. */
export interface StepTime {
  readonly total: number;
  /** In the runner: the session, its inputs built and its outputs taken apart. */
  readonly runner: number;
  /** In the runtime's session alone: the model. */
  readonly session: number;
}

export interface Decoded {
  /** Until every row has its first token. */
  readonly prefillMs: number;
  /** Of steps in which every row decodes. */
  readonly steps: readonly StepTime[];
  readonly tokenIds: readonly (readonly number[])[]; // [numRows]
}

export interface HarnessOptions {
  readonly modelDir: string;
  readonly cacheDir: string;
  readonly numThreads: number;
  readonly maxSequences: number;
}

/** The worker's own defaults, which the harness shares. */
const MAX_BATCHED_TOKENS = 128;
const PREFIX_CACHE_BYTES = 256 * 2 ** 20;

const greedy = { ...jobOf().sampling, temperature: 0 };

/** The engine as a worker runs it, with its model's time taken apart from its own. */
export class EngineHarness implements AsyncDisposable {
  readonly opened: OpenedModel;
  readonly numThreads: number;
  readonly tokenizer: Tokenizer;
  readonly #runner: ModelRunner;
  readonly #engine: Engine;
  readonly #clock: ModelClock;

  private constructor(
    opened: OpenedModel,
    runner: ModelRunner,
    { numThreads, maxSequences }: HarnessOptions,
  ) {
    this.opened = opened;
    this.numThreads = numThreads;
    this.tokenizer = createTokenizer(opened.tokenizerFiles);
    this.#runner = runner;
    this.#clock = new ModelClock(runner);
    const { tokenizer } = this;
    this.#engine = new Engine({
      runner: this.#clock.runner,
      limits: { maxSequences, maxBatchedTokens: MAX_BATCHED_TOKENS },
      prefixCacheBytes: PREFIX_CACHE_BYTES,
      speculator: null, // its own benchmark measures it
      context: {
        tokenBytes: tokenizer.tokenBytes,
        numLeadingSpaces: tokenizer.numLeadingSpaces,
        describe: (tokenId) => ({ text: tokenizer.tokenText(tokenId), bytes: [] }),
        eosTokenIds: opened.eosTokenIds,
        maxSequenceTokens: opened.shape.maxSequenceTokens,
        now: () => performance.now(),
      },
    });
  }

  static async open(options: HarnessOptions): Promise<EngineHarness> {
    const { modelDir, cacheDir, numThreads } = options;
    const model = await openModel({
      modelDir,
      cacheDir,
      numThreads,
      executionProvider: 'cpu',
      weightFormat: 'fp32',
    });
    return new EngineHarness(toOpenedModel(model), model.runner, options);
  }

  /** Reads one prompt per row, then decodes all rows together for `numSteps` steps, greedily. */
  async decode(
    prompts: readonly (readonly number[])[],
    numSteps: number,
    tenant = jobOf().tenant,
  ): Promise<Decoded> {
    const jobs = prompts.map((prompt) => this.#toJob(prompt, tenant));
    const tokenIdsById = new Map<RequestId, number[]>(jobs.map(({ id }) => [id, []]));
    const startMs = performance.now();
    for (const job of jobs) this.#engine.start(job, { choices: [NOTHING_PUBLISHED] });
    while ([...tokenIdsById.values()].some(({ length }) => length === 0)) {
      await this.#step(tokenIdsById);
    }
    const prefillMs = performance.now() - startMs;
    const steps: StepTime[] = [];
    while (steps.length < numSteps) steps.push(await this.#step(tokenIdsById));
    for (const { id } of jobs) this.#engine.release(id);
    return { prefillMs, steps, tokenIds: [...tokenIdsById.values()] };
  }

  /** What the cache of prefixes holds. */
  get prefixUsage(): PrefixCacheUsage {
    return this.#engine.prefixUsage;
  }

  #toJob(prompt: readonly number[], tenant: TenantId): Job {
    const prompts = [[...prompt]];
    return jobOf({ prompts, tenant, sampling: greedy, maxTokens: null, ignoreEos: true });
  }

  async #step(tokenIdsById: ReadonlyMap<RequestId, number[]>): Promise<StepTime> {
    this.#clock.reset();
    const startMs = performance.now();
    await this.#engine.step();
    const updates = this.#engine.takeUpdates();
    const total = performance.now() - startMs;
    for (const { id, events } of updates) {
      for (const event of events) {
        if (event.type === 'tokens') tokenIdsById.get(id)?.push(...event.tokenIds);
      }
    }
    return { total, runner: this.#clock.runnerMs, session: this.#clock.sessionMs };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#runner.close();
  }
}

let sessionMs = 0;
let isSessionTimed = false;

/** Sums the time that all sessions run: only one model is measured at a time. */
function timeSessions(): void {
  if (isSessionTimed) return;
  isSessionTimed = true;
  const prototype: { run: (...input: unknown[]) => Promise<unknown> } = Reflect.get(
    InferenceSession,
    'prototype',
  );
  const { run } = prototype;
  invariant(typeof run === 'function', 'the runtime has another way to run a session');
  prototype.run = async function (...input) {
    const startMs = performance.now();
    const output = await run.apply(this, input);
    sessionMs += performance.now() - startMs;
    return output;
  };
}

/** Measures how long a runner runs, and its session within. */
class ModelClock {
  readonly runner: ModelRunner;
  runnerMs = 0;
  #sessionMsBefore = 0;

  constructor(runner: ModelRunner) {
    timeSessions();
    this.runner = {
      shape: runner.shape,
      run: async (input) => {
        const startMs = performance.now();
        const output = await runner.run(input);
        this.runnerMs += performance.now() - startMs;
        return output;
      },
      close: () => runner.close(),
    };
  }

  get sessionMs(): number {
    return sessionMs - this.#sessionMsBefore;
  }

  reset(): void {
    this.runnerMs = 0;
    this.#sessionMsBefore = sessionMs;
  }
}
