import { createChatTemplate } from '../../shared/chat-template.ts';
import type { TokenizerFiles } from '../../shared/protocol/model-card.ts';
import { createTokenizer, type Tokenizer, TokenizerError } from '../../shared/tokenizer.ts';
import { ModelError } from '../model/model-error.ts';
import type { OpenModel } from '../model/open-model.ts';
import type { OpenedModel } from './opened-model.ts';

/** Texts of every kind of model; what is around them may matter, too. */
const PROBES = ['', 'Once upon a time, there was', 'def f(x):\n    return x ** 2', 'naïve 東京 🙂'];

/**
 * The tokenizer of an open model, once it is clear that clients can use it: its files are whole,
 * its tokens are the model's, and its chat template, if there is one, can be read.
 *
 * @throws {ModelError} one line: which file, what is wrong, what to do
 */
export function openTokenizer(
  { tokenizerFiles, shape }: OpenedModel,
  { tokenizerPaths: { tokenizer: path, config, chatTemplate }, modelDir }: OpenModel['checkpoint'],
): Tokenizer {
  const tokenizer = create(tokenizerFiles, modelDir);
  checkChatTemplate(tokenizerFiles, chatTemplate ?? config ?? path);
  // Single tokens that the model lacks, as fine-tunes add them, are refused where they occur.
  const tokenIds = PROBES.flatMap((text) => tokenizer.encode(text, { addSpecialTokens: true }));
  const unknown = tokenIds.find((tokenId) => tokenId >= shape.vocabSize);
  if (unknown === undefined) return tokenizer;
  throw new ModelError(
    `${path} gives plain text the token ${unknown}, but the model has ${shape.vocabSize}; ` +
      'is it the tokenizer of another model?',
  );
}

function create(files: TokenizerFiles, modelDir: string): Tokenizer {
  try {
    return createTokenizer(files);
  } catch (cause) {
    if (!(cause instanceof TokenizerError)) throw cause;
    throw new ModelError(`${modelDir}: ${cause.message}; download the tokenizer again`, { cause });
  }
}

function checkChatTemplate(files: TokenizerFiles, path: string): void {
  try {
    createChatTemplate(files);
  } catch (cause) {
    const [reason] = String(cause instanceof Error ? cause.message : cause).split('\n');
    throw new ModelError(`${path}: the chat template cannot be read: ${reason}; correct it`, {
      cause,
    });
  }
}
