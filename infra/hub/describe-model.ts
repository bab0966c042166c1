import { statSync } from 'node:fs';
import { createChatTemplate } from '../../shared/chat-template.ts';
import { createTokenizer } from '../../shared/tokenizer.ts';
import { bytesPerToken } from '../../worker/cache/layout.ts';
import { type Checkpoint, openCheckpoint } from '../../worker/model/checkpoint.ts';
import { canSlide, type ModelConfig } from '../../worker/model/config.ts';
import { buildGraph } from '../../worker/model/graph-cache.ts';
import { readTokenizer } from '../../worker/thread/opened-model.ts';

/**
 * What a model directory holds, line by line, once everything that a worker checks before it reads
 * the weights has been checked.
 *
 * @throws {Error} the line that a worker would end with
 */
export function describeModel(modelDir: string): string[] {
  const checkpoint = openCheckpoint(modelDir);
  const { config, weights } = checkpoint;
  try {
    buildGraph({ checkpoint, executionProvider: 'cpu', weightFormat: 'fp32', groupParts: 1 });
    const rows = [
      ['architecture', config.architecture],
      ['parameters', describeWeights(checkpoint)],
      [
        'layers',
        `${config.numLayers}, ${config.hiddenSize} wide, ${config.intermediateSize} within`,
      ],
      [
        'heads',
        `${config.numHeads} of ${config.headDim}, ${config.numKvHeads} for keys and values`,
      ],
      ['context', `${config.maxSequenceTokens} tokens, ${describePositions(config)}`],
      ['beyond it', canSlide(config) ? 'with attention sinks' : 'not possible'],
      ['cache', `${toSize(bytesPerToken(config))} a token, ${toSize(wholeRowBytes(config))} a row`],
      ['text', describeText(checkpoint)],
    ];
    return rows.map(([name = '', value]) => `${name.padEnd(13)} ${value}`);
  } finally {
    weights.close();
  }
}

function describeWeights({ weights }: Checkpoint): string {
  const numBytes = weights.paths.reduce((sum, path) => sum + statSync(path).size, 0);
  const types = [...weights.types].join(' and ');
  const files = weights.paths.length === 1 ? 'a file' : `${weights.paths.length} files`;
  return `${toCount(weights.numParameters)} in ${types}, ${toSize(numBytes)} in ${files}`;
}

function describePositions({ rope, slidingWindow }: ModelConfig): string {
  const kind = rope === null ? 'learned positions' : `rotary positions of base ${rope.theta}`;
  const scaling = rope === null || rope.scaling.type === 'none' ? [] : [rope.scaling.type];
  const window = slidingWindow === null ? [] : [`a window of ${slidingWindow}`];
  return [kind, ...scaling, ...window].join(', ');
}

function wholeRowBytes(config: ModelConfig): number {
  return bytesPerToken(config) * config.maxSequenceTokens;
}

function describeText({ config, tokenizerPaths }: Checkpoint): string {
  const files = readTokenizer(tokenizerPaths);
  createTokenizer(files);
  const chat = createChatTemplate(files) === null ? 'no chat template' : 'a chat template';
  return `${config.vocabSize} tokens, ${chat}`;
}

/** 3.5 M, 1.1 B. */
export function toCount(count: number): string {
  const [unit = '', divisor = 1] = count < 1e6 ? ['K', 1e3] : count < 1e9 ? ['M', 1e6] : ['B', 1e9];
  return `${(count / Number(divisor)).toPrecision(3)} ${unit}`;
}

/** 14.2 MB, 4.93 GB. */
export function toSize(numBytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let size = numBytes;
  let unit = 0;
  for (; size >= 1000 && unit < units.length - 1; unit += 1) size /= 1000;
  return `${unit === 0 ? size : size.toPrecision(3)} ${units[unit]}`;
}
