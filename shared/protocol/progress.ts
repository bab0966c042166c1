import { z } from 'zod';
import { characterCountSchema } from '../characters.ts';
import { FINISH_REASONS } from './event.ts';

export const choiceProgressSchema = z.object({
  numTokens: z.int().nonnegative(),
  /** In characters (UTF-16 units) of visible text. */
  textLength: z.int().nonnegative(),
  hasEcho: z.boolean(),
  finishReason: z.enum(FINISH_REASONS).nullable(),
  /** Of its tokens' text, where chunks say how far that has come; absent where nobody counted. */
  characters: characterCountSchema.optional(),
});

/** How far a choice has come: what the log of its request holds or held of it. */
export type ChoiceProgress = z.infer<typeof choiceProgressSchema>;

const progressSchema = z.object({
  /** Of the log, in characters of its events, those that are gone included. */
  logLength: z.int().nonnegative(),
  choices: z.array(choiceProgressSchema), // [numChoices]
});

/**
 * How far an endless request has come with an event of its log, so that nobody has to read all of
 * it to know.
 */
export type Progress = z.infer<typeof progressSchema>;

const markSchema = z.object({
  atMs: z.number(),
  /** Of the claim under which the log had come there. */
  epoch: z.int(),
  /** Of the event that came next. */
  seq: z.int(),
  progress: progressSchema,
});

/** A place in the log, and when it was reached: ids of events say nothing of time. */
export type Mark = z.infer<typeof markSchema>;

export function encodeProgress(progress: Progress): string {
  return JSON.stringify(progress);
}

/** @param text field `progress` of the state */
export function decodeProgress(text: string): Progress {
  return progressSchema.parse(JSON.parse(text));
}

export function encodeMarks(marks: readonly Mark[]): string {
  return JSON.stringify(marks);
}

/** @param text field `marks` of the state */
export function decodeMarks(text: string): Mark[] {
  return z.array(markSchema).parse(JSON.parse(text));
}
