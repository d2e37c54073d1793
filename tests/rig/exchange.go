package rig

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/service"
)

// Answer is what came back for a request, after both were held against the
// contract.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Result is one of the results of POST /api/data.
type Result struct {
	Status                 string           `json:"status"`
	Message                string           `json:"message"`
	RetryAfterMS           int              `json:"retry_after_ms"`
	RequiresClientHandling *bool            `json:"requires_client_handling"`
	FailedOperation        *FailedOperation `json:"failed_operation"`
}

// FailedOperation is the part of a fatal_error that names its cause.
type FailedOperation struct {
	ErrorCode      string         `json:"error_code"`
	Message        string         `json:"message"`
	Details        map[string]any `json:"details"`
	OperationIndex *int           `json:"operation_index"`
}

// Results are those of a 200.
func (a Answer) Results(t testing.TB) []Result {
	t.Helper()
	require.Equal(t, http.StatusOK, a.Status, a.Body)
	var body struct {
		Results []Result `json:"results"`
	}
	require.NoError(t, json.Unmarshal([]byte(a.Body), &body))
	return body.Results
}

// Upload posts a body to the write API as a user.
func (s *Service) Upload(t testing.TB, user, body string) Answer {
	t.Helper()
	return s.Send(t, http.MethodPost, "/api/data", body, "Authorization", "Bearer "+s.Token(t, user))
}

// UploadOutsideContract posts a body that the contract does not foresee. The answer must
// be one that it foresees.
func (s *Service) UploadOutsideContract(t testing.TB, user, body string) Answer {
	t.Helper()
	request, answer := s.send(t, http.MethodPost, "/api/data", body, "Authorization", "Bearer "+s.Token(t, user))
	checkExchange(t, request, answer, false)
	return answer
}

// One uploads a single transaction and returns its result. crud is the JSON of
// its operations, without the brackets.
func (s *Service) One(t testing.TB, user, crud string) Result {
	t.Helper()
	return s.Upload(t, user, `{"transactions":[{"crud":[`+crud+`]}]}`).Results(t)[0]
}

// Send makes any request. With the header Content-Encoding: gzip it packs the body. The answer must be one that the contract foresees, and
// so must the request be, unless the answer is a client error.
func (s *Service) Send(t testing.TB, method, path, body string, headers ...string) Answer {
	t.Helper()
	request, answer := s.send(t, method, path, body, headers...)
	checkExchange(t, request, answer, answer.Status < 400 || answer.Status >= 500)
	return answer
}

func (s *Service) send(t testing.TB, method, path, body string, headers ...string) (*http.Request, Answer) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	if request.Header.Get("Content-Encoding") == "gzip" {
		pack(t, request, body)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	request.Body = io.NopCloser(strings.NewReader(body))
	request.URL.Path = strings.TrimSuffix(request.URL.Path, "/") // the contract's paths have none at the end
	return request, Answer{response.StatusCode, response.Header, string(content)}
}

func pack(t testing.TB, request *http.Request, body string) {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := io.WriteString(w, body)
	require.NoError(t, errors.Join(err, w.Close()))
	request.Body, request.ContentLength = io.NopCloser(&packed), int64(packed.Len())
}

var contract = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromData(service.OpenAPI())
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	openapi3filter.RegisterBodyDecoder("application/yaml", openapi3filter.PlainBodyDecoder)
	openapi3filter.RegisterBodyDecoder("text/plain", openapi3filter.JSONBodyDecoder)
	return gorillamux.NewRouter(doc)
})

// checkExchange checks an answer, and if foreseen its request, against the contract.
func checkExchange(t testing.TB, request *http.Request, answer Answer, foreseen bool) {
	t.Helper()
	router, err := contract()
	require.NoError(t, err, "the contract itself")
	route, parameters, err := router.FindRoute(request)
	if err != nil {
		require.Contains(t, []int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNoContent}, answer.Status,
			"%s %s is not in the contract", request.Method, request.URL.Path)
		return
	}
	input := &openapi3filter.RequestValidationInput{
		Request: request, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
	}
	if foreseen {
		require.NoError(t, openapi3filter.ValidateRequest(t.Context(), input), "the request is outside the contract and was accepted")
	}
	require.NoError(t, openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input,
		Status:                 answer.Status,
		Header:                 answer.Header,
		Body:                   io.NopCloser(bytes.NewReader([]byte(answer.Body))),
		Options:                input.Options,
	}), "the answer is outside the contract: %d %s", answer.Status, answer.Body)
}
