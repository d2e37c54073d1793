package service

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"postern/service/identity"
	"postern/service/timing"
	"postern/service/upload"
)

// applyOlder applies an upload of an older form, and answers a client that reads the HTTP
// status alone. It drops what it sent after a 200, and sends everything again after any
// other status. So the answer is 200 only if each transaction is committed, or rejected
// and stored. The body is the first rejection, or success.
//
// A list may have any number of transactions. They are applied in the portions that the
// write API allows, each in one round trip.
func (s *Service) applyOlder(ctx context.Context, c *fiber.Ctx, who identity.Identity, batch upload.Batch, laps *timing.Laps) error {
	answer := upload.Result{Status: upload.Success}
	for portion := range slices.Chunk(batch.Transactions, upload.MaxTransactions) {
		part := batch
		part.Transactions = portion
		results := s.applier.Apply(ctx, requestLogger(c), who, part, laps)
		s.conclude(c, who, part, results, laps)
		for _, result := range results {
			switch result.Status {
			case upload.RetryableError:
				wait := time.Duration(result.RetryAfterMS) * time.Millisecond
				c.Set(fiber.HeaderRetryAfter, strconv.Itoa(int((wait+time.Second-1)/time.Second)))
				return fiber.NewError(fiber.StatusServiceUnavailable, result.Message)
			case upload.FatalError:
				if answer.Status == upload.Success {
					answer = result
				}
			}
		}
	}
	if len(batch.Transactions) > 1 && answer.FailedOperation != nil {
		answer.FailedOperation.OperationIndex = nil // it counts within a transaction, and not within the list
	}
	return c.JSON(answer)
}
