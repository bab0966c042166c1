import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MAX_DRAFT_TOKENS, PROPOSERS } from '../../worker/speculative/proposer.ts';
import { isModel } from '../../worker/speculative/step-costs.ts';
import { temporaryDirectory } from '../support/directories.ts';
import { describeDrafts } from '../support/draft-conformance.ts';
import { type ModelPair, openStoriesPair } from '../support/model-pair.ts';
import { type Cell, cellsOf, STYLES } from '../support/speculation-cases.ts';
import { describeSpeculation } from '../support/speculation-conformance.ts';
import { SpeculationGrid } from '../support/speculation-grid.ts';

const LENGTHS = [0, 1, 2, 3, 4, 5, 6, 7, 8];

/** Requests of a cell, by its rows: over all lengths, every proposer meets every opening. */
const NUM_CASES: Readonly<Record<number, number>> = { 1: 2, 4: 5, 16: 16 };

/** `RIVULET_FULL=1`: every style in every cell, twice, each time with other openings. */
const isFull = process.env.RIVULET_FULL === '1';
const MINUTE_MS = 60_000;

const directory = temporaryDirectory();

describeSpeculation('the stories pair', PROPOSERS, () => openStoriesPair(directory));
describeDrafts('the stories pair', () => openStoriesPair(directory));

describe('speculation on the stories pair', () => {
  let pair: ModelPair;
  let grid: SpeculationGrid;

  beforeAll(async () => {
    pair = await openStoriesPair(directory);
    grid = new SpeculationGrid(pair, isFull);
  });
  afterAll(() => pair[Symbol.asyncDispose]());

  /** @returns where outcomes differ from those of plain decoding */
  async function compare(cells: readonly Cell[]) {
    const differing: unknown[] = [];
    for (const cell of cells) {
      const count = isFull ? 2 * STYLES.length : NUM_CASES[cell.maxSequences]!;
      const cases = grid.nextCases(cell.proposer, count);
      for (const each of await grid.differing(cell, cases)) {
        differing.push({ ...cell, ...each });
      }
    }
    return differing;
  }

  it.each(PROPOSERS)(
    'gives the tokens of plain decoding with %s, in any style, length and batch',
    async (proposer) => {
      const lengths = isModel(proposer) ? LENGTHS : [...LENGTHS, MAX_DRAFT_TOKENS];
      expect(await compare(cellsOf([proposer], lengths))).toEqual([]);

      const { numRequests, numDrafted, numAccepted } = grid.totalsOf(proposer);
      const counts = `${numDrafted} tokens drafted, ${numAccepted} accepted`;
      console.log(`${proposer}: ${numRequests} requests the same, ${counts}`);
      expect(numAccepted).toBeGreaterThan(50);
      expect(numDrafted - numAccepted).toBeGreaterThan(50);
    },
    30 * MINUTE_MS,
  );

  it('has come to every opening and every style with every proposer', () => {
    expect(pair.prompts).toHaveLength(200);
    const met = PROPOSERS.flatMap((proposer) => [
      ...pair.prompts.map((_, prompt) => `${proposer} prompt ${prompt}`),
      ...STYLES.map((_, style) => `${proposer} style ${style}`),
    ]);
    expect(grid.covered).toEqual(new Set(met));
  });
});
