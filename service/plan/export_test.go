package plan

// MaxShapes is for tests.
const MaxShapes = maxShapes

// Bytes is what the statements take that are remembered.
func (s *Shapes) Bytes() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.bytes
}
