import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ProposerName } from '../../worker/speculative/proposer.ts';
import { temporaryDirectory } from '../support/directories.ts';
import { describeDrafts } from '../support/draft-conformance.ts';
import { type ModelPair, openStoriesPair } from '../support/model-pair.ts';
import { type Cell, cellsOf, STYLES } from '../support/speculation-cases.ts';
import { describeSpeculation } from '../support/speculation-conformance.ts';
import { SpeculationGrid } from '../support/speculation-grid.ts';

/** Every proposer that the engine can use. */
const PROPOSERS: readonly ProposerName[] = [
  'prediction',
  'ngram',
  'suffix',
  'lookahead',
  'draft',
  'staged',
];
const LENGTHS = [0, 1, 2, 3, 4, 5, 6, 7, 8];

/**
 * `RIVULET_FULL=1`: every style in every cell, twice, rather than as many requests as a cell has
 * rows.
 */
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
      const count = isFull ? 2 * STYLES.length : cell.maxSequences;
      for (const each of await grid.differing(cell, grid.nextCases(count))) {
        differing.push({ ...cell, ...each });
      }
    }
    return differing;
  }

  it.each(PROPOSERS)(
    'gives the tokens of plain decoding with %s, in any style, length and batch',
    async (proposer) => {
      expect(await compare(cellsOf([proposer], LENGTHS))).toEqual([]);

      const { numDrafted, numAccepted } = grid.totalsOf(proposer);
      expect(numAccepted).toBeGreaterThan(50);
      expect(numDrafted - numAccepted).toBeGreaterThan(50);
    },
    30 * MINUTE_MS,
  );

  it('has come to every opening, and to every style with every proposer', () => {
    const openings = pair.prompts.map((_, prompt) => `prompt ${prompt}`);
    const styles = PROPOSERS.flatMap((proposer) => STYLES.map((_, i) => `${proposer} ${i}`));

    expect(openings).toHaveLength(200);
    expect(grid.covered).toEqual(new Set([...openings, ...styles]));
  });
});
