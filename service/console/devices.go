package console

import (
	"context"
	"net/http"
)

// devices is the view of two phones beside the database, in dev mode alone. The phones'
// pages, at /phone/ of the same listener, have routes of their own.
func (c *Console) devices() view {
	if !c.Phones {
		return view{}
	}
	return view{Name: "devices", Title: "Devices", routes: map[string]route{
		"GET devices": func(context.Context, *http.Request) (any, error) { return struct{}{}, nil },
	}}
}
