package faults_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"postern/tests/rig"
)

const (
	requestPatience = 30 * time.Second      // the reference connector's
	longestWait     = 10 * time.Millisecond // before a request is sent again, whatever retry_after_ms says
	maxTransactions = 50                    // of one request
	maxRetries      = 5000                  // of the oldest transaction, before a test gives up
)

// device is an app with a local database: it writes into its queue and uploads
// that from the front, as the SDK and its reference connector do.
type device struct {
	user, token string
	clientID    string
	random      *rand.Rand // of the device alone
	completed   func(n int)

	written []*transaction
	queue   []*transaction // what of it was not completed
	rows    rows           // what the device has, and the server once all of it is uploaded
	lastOp  int
	lastTx  int

	most    int  // transactions of a request
	exactly bool // each request has that many
	senders int  // connections that may send the same request at once
	repeats bool // requests arrive again, later
	slow    bool // it sends and reads a few bytes at a time

	repeated   int           // requests after which something had to be sent again
	progressed time.Time     // when more of the queue was completed
	stall      time.Duration // the longest time between
}

// transaction is one of the queue, and what must come of it.
type transaction struct {
	id         int
	body       string
	operations int
	rejected   int // the operation that breaks a constraint; -1 where none does
	effects    []effect
	counted    map[string]int // counter: how often it goes up
}

// rows are the entries of one device, and their ids in an order of its own.
type rows struct {
	entries map[string]entry
	ids     []string
}

type entry struct {
	amount int
	marker string
}

func (e entry) String() string { return fmt.Sprintf("%d %s", e.amount, e.marker) }

func newDevice(random *rand.Rand, user, token string) *device {
	d := &device{user: user, token: token, random: random, rows: rows{entries: map[string]entry{}}, most: maxTransactions}
	d.clientID = d.uuid()
	return d
}

func (d *device) uuid() string {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(d.random.UintN(256))
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id.String()
}

// write makes one more transaction: of 1 to 50 operations, mostly few; one of 33
// breaks a constraint somewhere, one of 50 is empty.
func (d *device) write() {
	d.lastTx += 1 + d.random.IntN(3) // with gaps, as the SDK's
	tx := &transaction{id: d.lastTx, rejected: -1, counted: map[string]int{}}
	tx.operations = 1 + d.random.IntN([]int{1, 2, 5, 5, 10, 20, 50}[d.random.IntN(7)])
	switch {
	case d.random.IntN(33) == 0:
		tx.rejected = d.random.IntN(tx.operations)
	case d.random.IntN(50) == 0:
		tx.operations = 0
	}
	before := d.rows
	if tx.rejected >= 0 {
		d.rows = rows{maps.Clone(before.entries), slices.Clone(before.ids)}
	}
	crud := make([]string, tx.operations)
	for i := range crud {
		d.lastOp++
		crud[i] = d.operation(tx, i)
	}
	if tx.rejected >= 0 {
		d.rows = before
	}
	tx.body = fmt.Sprintf(`{"transaction_id":%d,"crud":[%s]}`, tx.id, strings.Join(crud, ","))
	d.written, d.queue = append(d.written, tx), append(d.queue, tx)
}

// operation makes one operation of a transaction, and notes what it does.
func (d *device) operation(tx *transaction, index int) string {
	marker := fmt.Sprintf("%s %d/%d", d.clientID, tx.id, d.lastOp)
	spell := func(op, table, id, data string) string {
		return fmt.Sprintf(`{"op_id":%d,"op":%q,"table":%q,"id":%q,"op_data":%s}`, d.lastOp, op, table, id, data)
	}
	amount := d.random.IntN(1000)
	whole := fmt.Sprintf(`{"amount":%d,"marker":%q}`, amount, marker)
	kind, at, id, there := d.random.IntN(100), 0, "", len(d.rows.ids) > 0
	if there {
		at = d.random.IntN(len(d.rows.ids))
		id = d.rows.ids[at]
	}
	entries := d.rows.entries
	switch {
	case index == tx.rejected:
		return spell("PUT", "entries", d.uuid(), fmt.Sprintf(`{"amount":-1,"marker":%q}`, marker))
	case kind < 25: // one of the user's counters goes up, perhaps for the second time
		id = counterID(d.user, d.random.IntN(countersPerUser))
		tx.counted[id]++
		tx.effects = append(tx.effects, effect{marker, "UPDATE"})
		return spell("PATCH", "counters", id, fmt.Sprintf(`{"marker":%q}`, marker))
	case kind < 40 && there: // INSERT OR REPLACE of a row that is there
		entries[id] = entry{amount, marker}
		tx.effects = append(tx.effects, effect{marker, "UPDATE"})
		return spell("PUT", "entries", id, whole)
	case kind < 55 && there:
		entries[id] = entry{entries[id].amount, marker}
		tx.effects = append(tx.effects, effect{marker, "UPDATE"})
		return spell("PATCH", "entries", id, fmt.Sprintf(`{"marker":%q}`, marker))
	case kind < 57 && there: // an UPDATE that changed nothing
		return spell("PATCH", "entries", id, `{}`)
	case kind < 65 && there:
		tx.effects = append(tx.effects, effect{entries[id].marker, "DELETE"})
		delete(entries, id)
		d.rows.ids = slices.Delete(d.rows.ids, at, at+1)
		return fmt.Sprintf(`{"op_id":%d,"op":"DELETE","table":"entries","id":%q}`, d.lastOp, id)
	}
	id = d.uuid()
	entries[id] = entry{amount, marker}
	d.rows.ids = append(d.rows.ids, id)
	tx.effects = append(tx.effects, effect{marker, "INSERT"})
	return spell("PUT", "entries", id, whole)
}

// upload sends the queue until it is empty, and whatever was not answered for
// good again, with the same ids and content, in batches of any size.
func (d *device) upload(ctx context.Context, url func() string) error {
	if d.senders > 1 {
		return d.uploadAtOnce(ctx, url)
	}
	client := newClient()
	if d.slow {
		client = newSlowClient()
	}
	defer client.CloseIdleConnections()
	late := newLateRequests(d)
	for retries := 0; len(d.queue) > 0; {
		batch := d.batch()
		results, err := post(ctx, client, url(), d.token, d.clientID, batch)
		if err != nil && !errors.Is(err, errNoAnswer) {
			return err
		}
		completed := 0
		if err == nil {
			if completed, err = settle(batch, results); err != nil {
				return err
			}
		}
		d.complete(completed)
		late.sendSome(ctx, url, batch)
		if completed == len(batch) {
			retries = 0
			continue
		}
		d.repeated++
		if retries++; completed > 0 {
			retries = 0
		}
		if stop := d.giveUp(ctx, retries); stop != nil {
			return fmt.Errorf("%w: the last results were %v", errors.Join(stop, err), results)
		}
	}
	return late.sendAll(ctx, url)
}

// uploadAtOnce has every request sent by several connections at the same time,
// each of which sends it again until all of it is answered for good.
func (d *device) uploadAtOnce(ctx context.Context, url func() string) error {
	for len(d.queue) > 0 {
		batch := d.batch()
		senders := 2 + d.random.IntN(d.senders-1)
		failed := make(chan error, senders)
		for range senders {
			go func() { failed <- d.insist(ctx, url, batch) }()
		}
		var errs []error
		for range senders {
			errs = append(errs, <-failed)
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		d.complete(len(batch))
	}
	return nil
}

// insist sends one batch until all of it is answered for good.
func (d *device) insist(ctx context.Context, url func() string, batch []*transaction) error {
	client := newClient()
	defer client.CloseIdleConnections()
	for retries := 1; ; retries++ {
		results, err := post(ctx, client, url(), d.token, d.clientID, batch)
		if err != nil && !errors.Is(err, errNoAnswer) {
			return err
		}
		if err == nil {
			completed, err := settle(batch, results)
			if err != nil || completed == len(batch) {
				return err
			}
		}
		if stop := d.giveUp(ctx, retries); stop != nil {
			return fmt.Errorf("%w: the last results were %v", errors.Join(stop, err), results)
		}
	}
}

// batch is the next one to send.
func (d *device) batch() []*transaction {
	n := d.most
	if !d.exactly {
		n = 1 + d.random.IntN(d.most)
	}
	return d.queue[:min(n, len(d.queue))]
}

// complete takes transactions out of the queue.
func (d *device) complete(n int) {
	d.queue = d.queue[n:]
	d.completed(n)
	if now := time.Now(); n > 0 {
		d.stall, d.progressed = max(d.stall, now.Sub(d.progressed)), now
	}
}

// giveUp waits before the next try, unless there has been no progress for long.
func (d *device) giveUp(ctx context.Context, retries int) error {
	if retries > maxRetries {
		return fmt.Errorf("transaction %d is still not answered for good", d.queue[0].id)
	}
	timer := time.NewTimer(rand.N(longestWait))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("out of time at transaction %d of %d", len(d.written)-len(d.queue), len(d.written))
	}
}

// settle counts the transactions that leave the queue: the contiguous ones from
// the first on that were answered for good.
func settle(batch []*transaction, results []rig.Result) (completed int, err error) {
	for i, result := range results {
		if err := batch[i].judge(result); err != nil {
			return completed, err
		}
		switch result.Status {
		case "retryable_error":
			return completed, nil
		case "not_attempted":
			if i == 0 {
				return completed, errors.New("the first transaction of a request was not attempted")
			}
			return completed, nil
		}
		completed++
	}
	return completed, nil
}

// judge reports an answer that must never be given to the transaction.
func (tx *transaction) judge(result rig.Result) error {
	switch {
	case result.Status == "success" && tx.rejected < 0:
		return nil
	case result.Status == "retryable_error" && result.RetryAfterMS > 0, result.Status == "not_attempted":
		return nil
	case result.Status == "fatal_error" && tx.rejected >= 0:
		failed := result.FailedOperation
		if failed.ErrorCode == "CHECK_VIOLATION" && failed.OperationIndex != nil && *failed.OperationIndex == tx.rejected && !*result.RequiresClientHandling {
			return nil
		}
	}
	text, _ := json.Marshal(result)
	return fmt.Errorf("transaction %d, to be rejected at operation %d: answered %s", tx.id, tx.rejected, text)
}

var errNoAnswer = errors.New("no answer")

func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: requestPatience}
}

// post sends a request once. errNoAnswer means that nothing, or not all of an
// answer, came back.
func post(ctx context.Context, client *http.Client, url, token, clientID string, batch []*transaction) ([]rig.Result, error) {
	bodies := make([]string, len(batch))
	for i, tx := range batch {
		bodies[i] = tx.body
	}
	body := fmt.Sprintf(`{"client_id":%q,"transactions":[%s]}`, clientID, strings.Join(bodies, ","))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/data", bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusRequestTimeout, http.StatusServiceUnavailable:
		return nil, fmt.Errorf("%w but %d %s", errNoAnswer, response.StatusCode, content)
	default:
		return nil, fmt.Errorf("answered %d %s", response.StatusCode, content)
	}
	var answer struct {
		Results []rig.Result `json:"results"`
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return nil, fmt.Errorf("%w in %s", err, content)
	}
	if len(answer.Results) != len(batch) {
		return nil, fmt.Errorf("%d results for %d transactions", len(answer.Results), len(batch))
	}
	return answer.Results, nil
}
