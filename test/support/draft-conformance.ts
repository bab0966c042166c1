import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Job } from '../../shared/protocol/job.ts';
import { Sequence } from '../../worker/engine/sequence.ts';
import { OutputStore } from '../../worker/speculative/output-store.ts';
import { MAX_DRAFT_TOKENS } from '../../worker/speculative/proposer.ts';
import { Drafting, finish, predicted } from './drafting.ts';
import { EngineDriver, foldChoices } from './engine-driver.ts';
import { createErraticSpeculator, createSpeculator, errAt, type ModelPair } from './model-pair.ts';
import { draftedTokens, jobOfCase, outcomeOf, STYLES } from './speculation-cases.ts';

/**
 * Whether a job's last token was a drafted one: all other steps end with a token of the target's.
 */
function hasEndedInside(driver: EngineDriver, job: Job): boolean {
  const numSteps = driver.eventsOf(job).length - 1;
  const { tokenIds } = outcomeOf(driver, job);
  return numSteps + draftedTokens(driver, job).accepted > tokenIds.length;
}

/** Drafts what the jobs say and more behind it. The end must come where it comes without. */
async function expectEndsInside(drafting: Drafting, jobs: readonly Job[]): Promise<void> {
  const expected = await drafting.plain(jobs);
  const outputs = new OutputStore();
  for (const [i, { tokenIds }] of expected.entries()) {
    outputs.add(jobs[i]!.tenant, [...jobs[i]!.prompts[0]!, ...tokenIds, 5, 6, 7, 8, 9, 10]);
  }
  const driver = drafting.open({ proposer: 'suffix', numDraftTokens: MAX_DRAFT_TOKENS, outputs });

  expect(await finish(driver, jobs)).toEqual(expected);
  expect(jobs.filter((job) => hasEndedInside(driver, job)).length).toBeGreaterThan(1);
}

/** What must hold of drafts and of what the target makes of them, whatever the models are. */
export function describeDrafts(name: string, open: () => Promise<ModelPair>): void {
  describe(`drafts for ${name}`, () => {
    let drafting: Drafting;
    beforeAll(async () => {
      drafting = new Drafting(await open());
    });
    afterAll(() => drafting.pair[Symbol.asyncDispose]());

    it.each([0, 0.7])('may hold the end token, at temperature %d', async (temperature) => {
      const { target, eosBias } = drafting.pair;
      const eos = target.context.eosTokenIds[0]!;
      const jobs = Array.from({ length: 12 }, (_, seed) => {
        const job = drafting.job(15, { seed, temperature, maxTokens: 60, ignoreEos: false });
        const logitBias: [number, number][] = [[eos, eosBias]];
        return { ...job, sampling: { ...job.sampling, logitBias, frequencyPenalty: 0.2 } };
      });
      await expectEndsInside(drafting, jobs);
    });

    it.each([0, 0.7])('may hold a stop string, at temperature %d', async (temperature) => {
      const stop = [...drafting.pair.stop];
      const jobs = Array.from({ length: 12 }, (_, seed) =>
        drafting.job(15, { seed, temperature, maxTokens: 60, stop }),
      );
      await expectEndsInside(drafting, jobs);
    });

    it.each(['draft', 'staged'] as const)(
      'are rejected where the draft model errs and nowhere else: %s',
      async (proposer) => {
        const { target } = drafting.pair;
        const isWrong = (position: number) => position % 7 === 3;
        const draft = errAt(target.runner, isWrong);
        const jobs = Array.from({ length: 9 }, (_, i) => ({
          ...jobOfCase({ prompt: 2 * i, style: 5 * i + 1 }, drafting.pair),
          maxTokens: 40,
          stop: [],
          ignoreEos: true,
        }));
        const expected = await drafting.plain(jobs);
        for (const numDraftTokens of [1, 3, 6]) {
          const rejected: number[] = [];
          const speculator = createSpeculator(draft, {
            proposer,
            numDraftTokens,
            maxSequences: 4,
            outputs: null,
            watch(sequence, { numDrafted, numAccepted }) {
              if (!(sequence instanceof Sequence) || numAccepted === numDrafted) return;
              rejected.push(sequence.tokenIds.length - 1);
            },
          });
          const driver = new EngineDriver({
            served: target,
            maxSequences: 4,
            maxBatchedTokens: 128,
            speculator,
          });

          expect(await finish(driver, jobs)).toEqual(expected);
          expect(rejected.length).toBeGreaterThan(3);
          expect(rejected.filter((position) => !isWrong(position))).toEqual([]);
        }
      },
    );

    it.each([1, 4, 16])(
      'may come from anywhere, of any length, in %d rows',
      async (maxSequences) => {
        const cases = STYLES.map((_, style) =>
          jobOfCase({ prompt: 2 * style + 1, style }, drafting.pair),
        );
        const expected = await drafting.plain(cases);
        const jobs = predicted(cases, expected);
        const outputs = new OutputStore();
        for (const [i, { tokenIds }] of expected.entries()) outputs.add(jobs[i]!.tenant, tokenIds);
        const { target, draft } = drafting.pair;
        const driver = new EngineDriver({
          served: target,
          maxSequences,
          maxBatchedTokens: 256,
          speculator: createErraticSpeculator(draft, { maxSequences, outputs }),
        });

        expect(await finish(driver, jobs)).toEqual(expected);
        const ends = jobs.map((job) => driver.eventsOf(job).at(-1));
        const proposers = ends.flatMap((end) => (end?.type === 'end' ? end.speculation : []));
        expect(new Set(proposers.map(({ proposer }) => proposer)).size).toBeGreaterThan(3);
      },
    );

    it('are made for those who want them, beside others in the batch', async () => {
      const jobs = Array.from({ length: 12 }, (_, i) => ({
        ...jobOfCase({ prompt: i, style: 4 * i }, drafting.pair),
        ignoreEos: true,
        speculation: i % 3 === 0 ? ('off' as const) : ('auto' as const),
      }));
      const driver = drafting.open({ numDraftTokens: 4 });

      expect(await finish(driver, jobs)).toEqual(await drafting.plain(jobs));
      const areDrafted = jobs.map((job) => {
        const end = driver.eventsOf(job).at(-1);
        return end?.type === 'end' && end.speculation.length > 0;
      });
      expect(areDrafted.filter((_, i) => i % 3 === 0)).toEqual(Array(4).fill(false));
      expect(areDrafted.filter(Boolean).length).toBeGreaterThan(5);
    });

    it('are made for each choice of a request', async () => {
      const fields = { seed: 8, temperature: 1, maxTokens: 20 };
      const prompts = [drafting.promptOf(20), drafting.promptOf(9, 3)];
      const job = { ...drafting.job(1, fields), prompts, n: 3 };
      const plain = drafting.openPlain();
      const drafted = drafting.open();
      for (const driver of [plain, drafted]) driver.start(job);
      for (const driver of [plain, drafted]) await driver.finish();

      const expected = foldChoices(plain.eventsOf(job), 6);
      expect(foldChoices(drafted.eventsOf(job), 6)).toEqual(expected);
    });
  });
}
