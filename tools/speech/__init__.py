"""What trains the audio encoder that hears people: neural voices, a teacher, real mouths."""
