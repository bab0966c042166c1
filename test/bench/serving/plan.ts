import { type Rng, seededRng } from '../../support/random.ts';

/** One request of a load. */
export interface PlannedRequest {
  readonly promptTokenIds: readonly number[];
  readonly numTokens: number;
  readonly seed: number;
  /** When it arrives, in an open loop. */
  readonly atMs: number;
  /** How long its stream rests before it, in a closed one. */
  readonly pauseMs: number;
}

export interface LoadPlan {
  /**
   * In how many streams one request follows the other's end; `null` to send them when they arrive.
   */
  readonly closedStreams: number | null;
  readonly requests: readonly PlannedRequest[];
  /** Tokens are counted from 0 to here; nothing is sent later. */
  readonly durationMs: number;
}

/** Tokens of a prompt and of its answer: from the shortest to the longest, log-uniform. */
export interface Lengths {
  readonly prompt: readonly [shortest: number, longest: number];
  readonly output: readonly [shortest: number, longest: number];
}

interface PlanOptions {
  readonly seed: number;
  readonly durationMs: number;
  readonly lengths: Lengths;
  /** [numTokens] Text of which prompts are cut. */
  readonly corpus: readonly number[];
}

/**
 * Requests one after the other in each of `streams`, with pauses of `meanPauseMs` (exponential).
 */
export function closedPlan(
  options: PlanOptions,
  { streams, meanPauseMs }: { readonly streams: number; readonly meanPauseMs: number },
): LoadPlan {
  const rng = seededRng(options.seed);
  const requests = Array.from({ length: 256 }, () => ({
    ...drawRequest(rng, options),
    atMs: 0,
    pauseMs: exponential(rng, meanPauseMs),
  }));
  return { closedStreams: streams, requests, durationMs: options.durationMs };
}

/** `initial` requests at once, then Poisson arrivals whoever is still being served. */
export function openPlan(
  options: PlanOptions,
  { initial, perSecond }: { readonly initial: number; readonly perSecond: number },
): LoadPlan {
  const rng = seededRng(options.seed);
  const requests: PlannedRequest[] = [];
  for (let atMs = 0; atMs < options.durationMs; ) {
    requests.push({ ...drawRequest(rng, options), atMs, pauseMs: 0 });
    if (requests.length >= initial) atMs += exponential(rng, 1000 / perSecond);
  }
  return { closedStreams: null, requests, durationMs: options.durationMs };
}

/** Mean of a log-uniform length. */
export function meanOf([shortest, longest]: readonly [number, number]): number {
  return shortest === longest ? shortest : (longest - shortest) / Math.log(longest / shortest);
}

function drawRequest(rng: Rng, { lengths, corpus }: PlanOptions) {
  const promptLength = logUniform(rng, lengths.prompt);
  const start = Math.floor(rng() * (corpus.length - promptLength));
  return {
    promptTokenIds: corpus.slice(start, start + promptLength),
    numTokens: logUniform(rng, lengths.output),
    seed: Math.floor(rng() * 2 ** 32),
  };
}

function logUniform(rng: Rng, [shortest, longest]: readonly [number, number]): number {
  return Math.round(shortest * (longest / shortest) ** rng());
}

function exponential(rng: Rng, mean: number): number {
  return -Math.log(1 - rng()) * mean;
}
