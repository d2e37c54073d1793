package conformance_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"postern/tests/rig"
)

// BenchmarkUpload is for profiles of the service (-cpuprofile, -memprofile);
// tests/bench compares.
func BenchmarkUpload(b *testing.B) {
	s := rig.NewService(b, rig.DemoPolicies(b))
	token := s.Token(b, "alice")
	for _, shape := range [][2]int{{1, 1}, {1, 100}, {50, 1}} {
		b.Run(fmt.Sprintf("%dx%d", shape[0], shape[1]), func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				var transactions []string
				for range shape[0] {
					var crud []string
					for range shape[1] {
						n++
						crud = append(crud, fmt.Sprintf(`{"op_id":%d,"op":"PUT","table":"lists","id":%q,"op_data":{"name":"Groceries"}}`, n, uuid.NewString()))
					}
					transactions = append(transactions, fmt.Sprintf(`{"transaction_id":%d,"crud":[%s]}`, n, strings.Join(crud, ",")))
				}
				request, _ := http.NewRequest(http.MethodPost, s.URL+"/api/data", strings.NewReader(`{"transactions":[`+strings.Join(transactions, ",")+`]}`))
				request.Header.Set("Authorization", "Bearer "+token)
				response, err := http.DefaultClient.Do(request)
				if err != nil || response.StatusCode != http.StatusOK {
					b.Fatal(err, response)
				}
				response.Body.Close()
			}
		})
	}
}
