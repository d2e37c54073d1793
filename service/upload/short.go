package upload

// Short cuts a name that a client chose to 100 characters, for messages and the log.
func Short(name string) string { return Cut(name, 100) }

// Cut cuts a text to a number of characters.
func Cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	characters := 0
	for i := range text {
		if characters == most {
			return text[:i] + "…"
		}
		characters++
	}
	return text
}
