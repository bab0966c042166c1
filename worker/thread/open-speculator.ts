import type { Tokenizer } from '../../shared/tokenizer.ts';
import { Drafter } from '../engine/drafter.ts';
import { Speculator } from '../engine/speculator.ts';
import { chooseFormat } from '../model/choose-format.ts';
import { type OpenModel, openModel } from '../model/open-model.ts';
import { checkNumbers } from '../model/self-check.ts';
import { Controller } from '../speculative/controller.ts';
import { OutputStore } from '../speculative/output-store.ts';
import { Rest } from '../speculative/rest.ts';
import { tokenizerDifference } from './draft-tokenizer.ts';
import type { ThreadOptions } from './messages.ts';
import { openTokenizer } from './open-tokenizer.ts';
import { toOpenedModel } from './opened-model.ts';

/**
 * What drafts for the target, if anything is to.
 *
 * @throws {Error} one line, when the draft model cannot be read or has another tokenizer than the
 *   target
 */
export async function openSpeculator(
  options: ThreadOptions,
  target: Tokenizer,
): Promise<Speculator | null> {
  const { draftModelDir, proposers, maxDraftTokens } = options.speculation;
  if (proposers.length === 0) return null;
  const draft = draftModelDir === null ? null : await openDraft(options, draftModelDir, target);
  return new Speculator({
    policy: new Controller(),
    drafter: draft && new Drafter(draft.runner, options.limits.maxSequences),
    rest: new Rest(),
    outputs: proposers.includes('suffix') ? new OutputStore() : null,
    proposers: new Set(proposers),
    maxDraftTokens,
    now: () => performance.now(),
  });
}

async function openDraft(
  options: ThreadOptions,
  modelDir: string,
  target: Tokenizer,
): Promise<OpenModel> {
  const { draftWeightFormat } = options.speculation;
  const weightFormat =
    draftWeightFormat === 'auto' ? await chooseFormat({ ...options, modelDir }) : draftWeightFormat;
  const draft = await openModel({ ...options, modelDir, weightFormat });
  const tokenizer = openTokenizer(toOpenedModel(draft), draft.checkpoint);
  const difference = tokenizerDifference(target, tokenizer);
  if (difference === null) {
    await checkNumbers(draft.runner, modelDir);
    return draft;
  }
  await draft.runner.close();
  throw new Error(`${modelDir} cannot draft, its tokenizer is another: ${difference}`);
}
