"""Why a network answers what it answers: gate maps, Grad-CAM, importance of frames, inputs that a class would like."""
