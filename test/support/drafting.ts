import type { TokenId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { OutputStore } from '../../worker/speculative/output-store.ts';
import { type ChoiceSoFar, EngineDriver, engineJob } from './engine-driver.ts';
import { createSpeculator, type ModelPair, type SpeculatorOptions } from './model-pair.ts';
import { PLAIN_PARAMS } from './plain-sampling.ts';
import { outcomeOf, predictionOf } from './speculation-cases.ts';

export interface DraftingOptions extends Partial<SpeculatorOptions> {
  readonly prefixCacheBytes?: number;
  readonly maxSequenceTokens?: number;
}

/** Engines over a pair of models, with speculation and without. */
export class Drafting {
  readonly pair: ModelPair;

  constructor(pair: ModelPair) {
    this.pair = pair;
  }

  /** An engine of four rows in which `draft` drafts three tokens, unless told otherwise. */
  open({ prefixCacheBytes = 0, maxSequenceTokens, ...rest }: DraftingOptions = {}): EngineDriver {
    const options = {
      proposer: 'draft' as const,
      numDraftTokens: 3,
      maxSequences: 4,
      outputs: new OutputStore(),
      ...rest,
    };
    return new EngineDriver({
      served: this.#served(maxSequenceTokens),
      maxSequences: options.maxSequences,
      maxBatchedTokens: 128, // room for drafts beside a block of a prompt
      prefixCacheBytes,
      speculator: createSpeculator(this.pair.draft, options),
    });
  }

  openPlain(maxSequenceTokens?: number): EngineDriver {
    return new EngineDriver({ served: this.#served(maxSequenceTokens) });
  }

  #served(maxSequenceTokens?: number) {
    const { runner, context } = this.pair.target;
    return {
      runner,
      context: maxSequenceTokens === undefined ? context : { ...context, maxSequenceTokens },
    };
  }

  /** What the jobs come to without speculation. */
  plain(jobs: readonly Job[]): Promise<ChoiceSoFar[]> {
    return finish(this.openPlain(), jobs);
  }

  /** So many tokens of the pair's prompts, from the `first` on. */
  promptOf(numTokens: number, first = 0): TokenId[] {
    const { prompts } = this.pair;
    const tokenIds: TokenId[] = [];
    for (let i = first; tokenIds.length < numTokens; i += 1) {
      tokenIds.push(...prompts[i % prompts.length]!);
    }
    return tokenIds.slice(0, numTokens);
  }

  /** A job that begins with so many tokens, and that no end token ends. */
  job(
    numPromptTokens: number,
    { seed, temperature, ...fields }: { seed: number; temperature: number } & Partial<Job>,
  ): Job {
    return engineJob({
      prompts: [this.promptOf(numPromptTokens, seed)],
      sampling: { ...PLAIN_PARAMS, temperature, seed },
      ignoreEos: true,
      speculation: 'auto',
      ...fields,
    });
  }
}

/** Runs jobs of one choice to their ends, together. */
export async function finish(driver: EngineDriver, jobs: readonly Job[]): Promise<ChoiceSoFar[]> {
  for (const job of jobs) driver.start(job);
  await driver.finish();
  return jobs.map((job) => outcomeOf(driver, job));
}

/** The jobs of clients who know nearly what is coming. */
export function predicted(jobs: readonly Job[], outcomes: readonly ChoiceSoFar[]): Job[] {
  return jobs.map((job, i) => ({ ...job, prediction: predictionOf(outcomes[i]!.tokenIds) }));
}
