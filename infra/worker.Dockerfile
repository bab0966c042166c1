# A worker for one model. Build from the repository's root: docker build -f infra/worker.Dockerfile .
FROM node:24-bookworm-slim
ENV NODE_ENV=production ONNXRUNTIME_NODE_INSTALL=skip CACHE_DIR=/cache
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --omit=optional --ignore-scripts && npm cache clean --force
COPY shared shared
COPY worker worker
COPY infra/models infra/models
RUN mkdir /cache && chown node:node /cache
USER node
VOLUME /cache
ENV MODEL_DIR=/app/infra/models/stories-target
# Told to stop, a worker hands its requests over; give it GRACE_MS before it is killed.
STOPSIGNAL SIGTERM
CMD ["node", "worker/main.ts"]
