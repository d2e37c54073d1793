package ledger_test

import (
	"fmt"

	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/upload"
)

func ExampleDigestOf() {
	alice := identity.Identity{Issuer: "https://auth.example.com", Subject: "alice"}
	sent := upload.Transaction{ID: "7", Operations: []upload.Operation{{Op: upload.Patch, Table: "todos", ID: "t1"}}}
	phone, again, tablet := ledger.DigestOf(alice, "phone", sent), ledger.DigestOf(alice, "phone", sent), ledger.DigestOf(alice, "tablet", sent)
	fmt.Println("a retry:", phone == again)
	fmt.Println("another device:", phone == tablet)
	fmt.Println("a receipt without a client id:", ledger.DigestOf(alice, "", sent).Receipt)
	// Output:
	// a retry: true
	// another device: false
	// a receipt without a client id: false
}
