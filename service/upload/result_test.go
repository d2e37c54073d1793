package upload_test

import (
	"encoding/json"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/service/upload"
)

// TestResult marshals results as the service does, and validates them against the
// schema Result of openapi.yaml.
func TestResult(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromFile("../openapi.yaml")
	require.NoError(t, err)
	contract := doc.Components.Schemas["Result"].Value

	for _, test := range []struct {
		name   string
		result upload.Result
		want   string
	}{
		{"Success", upload.Result{Status: upload.Success}, `{"status":"success"}`},
		{"NotAttempted", upload.Result{Status: upload.NotAttempted}, `{"status":"not_attempted"}`},
		{
			"RetryableError",
			upload.Result{Status: upload.RetryableError, Message: "try again", RetryAfterMS: 5000},
			`{"status":"retryable_error","message":"try again","retry_after_ms":5000}`,
		},
		{
			"Rejected",
			upload.Rejected(&upload.Rejection{Code: upload.CheckViolation, Message: "too long", Operation: -1}),
			`{"status":"fatal_error","message":"too long","requires_client_handling":false,"failed_operation":{"error_code":"CHECK_VIOLATION","message":"too long"}}`,
		},
		{
			"RejectedFirstOperation",
			upload.Rejected(&upload.Rejection{Code: upload.CheckViolation, Message: "too long"}),
			`{"status":"fatal_error","message":"too long","requires_client_handling":false,"failed_operation":{"error_code":"CHECK_VIOLATION","message":"too long","operation_index":0}}`,
		},
		{
			"RejectedForTheAppToDecide",
			upload.Rejected(&upload.Rejection{Code: "LIST_ARCHIVED", Message: "archived", Operation: 2, ClientHandling: true}),
			`{"status":"fatal_error","message":"archived","requires_client_handling":true,"failed_operation":{"error_code":"LIST_ARCHIVED","message":"archived","operation_index":2}}`,
		},
		{
			"RejectedWithDetails",
			upload.Rejected(&upload.Rejection{Code: upload.Conflict, Message: "changed", Operation: 1, Details: map[string]any{"row": jsontext.Value(`{"n":1.10}`)}}),
			`{"status":"fatal_error","message":"changed","requires_client_handling":false,"failed_operation":{"error_code":"CONFLICT","message":"changed","details":{"row":{"n":1.10}},"operation_index":1}}`,
		},
		{
			"RejectedWithStoredDetails",
			upload.Rejected(&upload.Rejection{Code: upload.Conflict, Message: "changed", Operation: 1, Details: jsontext.Value(`{"row":{}}`)}),
			`{"status":"fatal_error","message":"changed","requires_client_handling":false,"failed_operation":{"error_code":"CONFLICT","message":"changed","details":{"row":{}},"operation_index":1}}`,
		},
		{
			"RuleIsNotForTheClient",
			upload.Rejected(&upload.Rejection{Code: "X", Message: "no", Operation: -1, Rule: "title-length"}),
			`{"status":"fatal_error","message":"no","requires_client_handling":false,"failed_operation":{"error_code":"X","message":"no"}}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Marshal(test.result)
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
			var value any
			require.NoError(t, json.Unmarshal(got, &value))
			require.NoError(t, contract.VisitJSON(value))
		})
	}
}

func TestRejectionIsAnError(t *testing.T) {
	t.Parallel()
	require.EqualError(t, &upload.Rejection{Code: "TOO_LONG", Message: "the title is too long"}, "TOO_LONG: the title is too long")
}

func TestClone(t *testing.T) {
	t.Parallel()
	made := func() upload.Transaction {
		return upload.Transaction{ID: "1", Operations: []upload.Operation{{
			ID: "a", Data: []upload.Member{{Name: "n", Value: jsontext.Value("1")}}, Previous: []upload.Member{{Name: "n", Value: jsontext.Value("2")}},
		}, {ID: "b", Data: []upload.Member{}}}}
	}
	original := made()
	clone := original.Clone()
	require.Equal(t, original, clone)
	clone.Operations[0].Data[0].Value[0] = '3'
	clone.Operations[0].Previous[0].Name = "m"
	clone.Operations[1].ID = "c"
	require.Equal(t, made(), original)
}
