import { Hono } from 'hono';
import { parseChatRequest } from '../../shared/protocol/request.ts';
import type { AppEnv } from '../app.ts';
import { methodNotAllowed } from '../errors.ts';
import { generate } from './generation.ts';

export const chat = new Hono<AppEnv>();

chat.post('/', (c) => generate(c, parseChatRequest));
chat.all('/', methodNotAllowed('POST'));
