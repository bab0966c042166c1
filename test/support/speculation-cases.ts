import type { TokenId } from '../../shared/ids.ts';
import type { Job, SamplingParams } from '../../shared/protocol/job.ts';
import type { ProposerName } from '../../worker/speculative/proposer.ts';
import {
  type ChoiceSoFar,
  type DriverOptions,
  EngineDriver,
  engineJob,
  foldChoices,
} from './engine-driver.ts';
import type { ModelPair } from './model-pair.ts';
import { PLAIN_PARAMS } from './plain-sampling.ts';

const TEMPERATURES = [0, 0.7, 1.3] as const;
const OPTIONS = ['topP', 'minP', 'penalties', 'logitBias', 'stop'] as const;
type Option = (typeof OPTIONS)[number];

/** None, each by itself, each with each other, and all. */
const COMBINATIONS: readonly (readonly Option[])[] = [
  [],
  ...OPTIONS.map((option) => [option]),
  ...OPTIONS.flatMap((option, i) => OPTIONS.slice(i + 1).map((other) => [option, other])),
  OPTIONS,
];

/** How tokens are chosen: a temperature, and options beside it. */
export interface Style {
  readonly temperature: number;
  readonly options: readonly Option[];
}

export const STYLES: readonly Style[] = COMBINATIONS.flatMap((options) =>
  TEMPERATURES.map((temperature) => ({ temperature, options })),
);

/** One request: which of the pair's prompts, over and over, and which of the styles. */
export interface Case {
  readonly prompt: number;
  readonly style: number;
}

/** Every request has a seed, a length and other options of its own; some pass the first block. */
export function jobOfCase({ prompt, style }: Case, pair: ModelPair): Job {
  const { temperature, options } = STYLES[style]!;
  const tokenIds = pair.prompts[prompt % pair.prompts.length]!;
  const sampling = Object.assign(
    { ...PLAIN_PARAMS, temperature, seed: 1000 * style + prompt },
    ...options.map((option) => samplingOf(option, pair)),
  );
  return engineJob({
    prompts: [[...tokenIds]],
    sampling,
    stop: options.includes('stop') ? [...pair.stop] : [],
    maxTokens: 8 + 12 * (prompt % 6),
    ...(prompt % 3 === 1 && { minTokens: 5, stopTokenIds: [tokenIds.at(-1)!] }),
    topLogprobs: prompt % 4 === 0 ? 2 : null,
    ignoreEos: prompt % 2 === 0,
    speculation: 'auto',
  });
}

function samplingOf(option: Option, pair: ModelPair): Partial<SamplingParams> {
  switch (option) {
    case 'stop':
      return {};
    case 'topP':
      return { topP: 0.8 };
    case 'minP':
      return { minP: 0.1 };
    case 'penalties':
      return { presencePenalty: 0.5, frequencyPenalty: 0.7, repetitionPenalty: 1.2 };
    case 'logitBias':
      return { logitBias: [...pair.logitBias] };
  }
}

/** Runs jobs together. @returns what each of them came to, which is never an error */
export async function runAll(
  jobs: readonly Job[],
  options: DriverOptions,
): Promise<readonly ChoiceSoFar[]> {
  const driver = new EngineDriver(options);
  for (const job of jobs) driver.start(job);
  await driver.finish();
  return jobs.map((job) => outcomeOf(driver, job));
}

/** What a job of one choice came to. */
export function outcomeOf(driver: EngineDriver, job: Job): ChoiceSoFar {
  const events = driver.eventsOf(job);
  if (events.at(-1)?.type !== 'end') throw new Error(`${job.id} did not end well`);
  return foldChoices(events, 1)[0]!;
}

/** How many tokens were drafted for a finished job, by what became of them. */
export function draftedTokens(driver: EngineDriver, job: Job) {
  const end = driver.eventsOf(job).at(-1);
  if (end?.type !== 'end') throw new Error(`${job.id} did not end well`);
  const { acceptedPredictionTokens, rejectedPredictionTokens } = end.usage;
  return { accepted: acceptedPredictionTokens, rejected: rejectedPredictionTokens };
}

/** The output with a token here and there replaced, as a client might predict it. */
export function predictionOf(tokenIds: readonly TokenId[]): TokenId[] {
  return tokenIds.map((tokenId, i) => (i % 9 === 5 ? (tokenId === 5 ? 6 : 5) : tokenId));
}

/** Where a grid stands: who drafts how much for how many rows. */
export interface Cell {
  readonly proposer: ProposerName;
  readonly numDraftTokens: number;
  readonly maxSequences: number;
}

export function cellsOf(proposers: readonly ProposerName[], lengths: readonly number[]): Cell[] {
  return proposers.flatMap((proposer) =>
    lengths.flatMap((numDraftTokens) =>
      [1, 4, 16].map((maxSequences) => ({ proposer, numDraftTokens, maxSequences })),
    ),
  );
}
