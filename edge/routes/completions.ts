import { Hono } from 'hono';
import { parseCompletionRequest } from '../../shared/protocol/request.ts';
import type { AppEnv } from '../app.ts';
import { methodNotAllowed } from '../errors.ts';
import { generate } from './generation.ts';

export const completions = new Hono<AppEnv>();

completions.post('/', (c) => generate(c, parseCompletionRequest));
completions.all('/', methodNotAllowed('POST'));
