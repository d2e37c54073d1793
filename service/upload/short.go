package upload

const maxName = 100

// Short cuts a name that a client chose to 100 characters, for messages and the log.
func Short(name string) string {
	if len(name) <= maxName {
		return name
	}
	characters := 0
	for i := range name {
		if characters == maxName {
			return name[:i] + "…"
		}
		characters++
	}
	return name
}
