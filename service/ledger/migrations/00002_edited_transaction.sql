-- +goose Up
set local lock_timeout = '5s';

-- What a replay applied, if who has edited it; the rejected write keeps what was sent.
alter table postern.rejected_actions add column transaction json;
