import { OutputStore } from '../../worker/speculative/output-store.ts';
import { PROPOSERS, type ProposerName } from '../../worker/speculative/proposer.ts';
import { type ChoiceSoFar, EngineDriver } from './engine-driver.ts';
import { createSpeculator, type ModelPair } from './model-pair.ts';
import { seededRng, shuffled } from './random.ts';
import {
  type Case,
  type Cell,
  draftedTokens,
  jobOfCase,
  outcomeOf,
  predictionOf,
  runAll,
  STYLES,
} from './speculation-cases.ts';

/** Rows of the engine that decodes plainly. */
const NUM_PLAIN_ROWS = 16;

export interface GridTotals {
  readonly numRequests: number;
  readonly numDrafted: number;
  readonly numAccepted: number;
}

/** Compares speculation with plain decoding, request by request. */
export class SpeculationGrid {
  readonly #pair: ModelPair;
  readonly #plainByCase = new Map<string, ChoiceSoFar>();
  readonly #outputs = new OutputStore();
  readonly #isFull: boolean;
  readonly #casesByProposer = new Map<ProposerName, Iterator<Case>>();
  /** Prompts and styles that each proposer has met. */
  readonly covered = new Set<string>();
  readonly #totalsByProposer = new Map<ProposerName, GridTotals>();

  /** @param isFull whether every prompt meets every style in the end, not just one of them */
  constructor(pair: ModelPair, isFull = false) {
    this.#pair = pair;
    this.#isFull = isFull;
  }

  totalsOf(proposer: ProposerName): GridTotals {
    const none = { numRequests: 0, numDrafted: 0, numAccepted: 0 };
    return this.#totalsByProposer.get(proposer) ?? none;
  }

  /** A proposer's next requests, in an order of its own that comes to every prompt and style. */
  nextCases(proposer: ProposerName, count: number): Case[] {
    let cases = this.#casesByProposer.get(proposer);
    if (cases === undefined) {
      const seed = PROPOSERS.indexOf(proposer);
      cases = endlessCases(this.#pair.prompts.length, { seed, isFull: this.#isFull });
      this.#casesByProposer.set(proposer, cases);
    }
    const next = cases;
    return Array.from({ length: count }, () => next.next().value);
  }

  /**
   * Decodes cases plainly, unless that was done before; what they say can be looked up from then
   * on.
   */
  async plain(cases: readonly Case[]): Promise<readonly ChoiceSoFar[]> {
    const unknown = cases.filter((each) => !this.#plainByCase.has(JSON.stringify(each)));
    const jobs = unknown.map((each) => jobOfCase(each, this.#pair));
    const outcomes = await runAll(jobs, {
      served: this.#pair.target,
      maxSequences: NUM_PLAIN_ROWS,
      maxBatchedTokens: 256,
    });
    for (const [i, outcome] of outcomes.entries()) {
      this.#plainByCase.set(JSON.stringify(unknown[i]), outcome);
      this.#outputs.add(jobs[i]!.tenant, outcome.tokenIds);
    }
    return cases.map((each) => this.#plainByCase.get(JSON.stringify(each))!);
  }

  /** @returns cases whose outcome is another with speculation than without */
  async differing(cell: Cell, cases: readonly Case[]): Promise<Case[]> {
    const { proposer, maxSequences } = cell;
    const expected = await this.plain(cases);
    const jobs = cases.map((each, i) => ({
      ...jobOfCase(each, this.#pair),
      prediction: predictionOf(expected[i]!.tokenIds),
    }));
    const speculator = createSpeculator(this.#pair.draft, { ...cell, outputs: this.#outputs });
    const driver = new EngineDriver({
      served: this.#pair.target,
      maxSequences,
      maxBatchedTokens: 256,
      speculator,
    });
    for (const job of jobs) driver.start(job);
    await driver.finish();

    for (const [i, { prompt, style }] of cases.entries()) {
      this.covered.add(`${proposer} prompt ${prompt}`).add(`${proposer} style ${style}`);
      this.#count(proposer, draftedTokens(driver, jobs[i]!));
    }
    return cases.filter((_, i) => !isSame(outcomeOf(driver, jobs[i]!), expected[i]!));
  }

  #count(proposer: ProposerName, { accepted, rejected }: ReturnType<typeof draftedTokens>): void {
    const { numRequests, numDrafted, numAccepted } = this.totalsOf(proposer);
    this.#totalsByProposer.set(proposer, {
      numRequests: numRequests + 1,
      numDrafted: numDrafted + accepted + rejected,
      numAccepted: numAccepted + accepted,
    });
  }
}

/** Round after round of all prompts and all styles, each in an order of its own. */
function* endlessCases(
  numPrompts: number,
  { seed, isFull }: { seed: number; isFull: boolean },
): Generator<Case, never> {
  const rng = seededRng(seed);
  for (let i = 0, prompts: number[] = [], styles: number[] = []; ; i += 1) {
    if (i % numPrompts === 0) prompts = shuffled(rng, [...Array(numPrompts).keys()]);
    if (i % STYLES.length === 0) styles = shuffled(rng, [...STYLES.keys()]);
    const prompt = prompts[i % numPrompts]!;
    yield { prompt, style: isFull ? styles[i % STYLES.length]! : onlyStyleOf(prompt) };
  }
}

function onlyStyleOf(prompt: number): number {
  return (5 * prompt + Math.floor(prompt / STYLES.length)) % STYLES.length;
}

/** To the last bit: tokens, text, log-probabilities and how it ended. */
export function isSame(a: ChoiceSoFar, b: ChoiceSoFar): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
