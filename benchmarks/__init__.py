"""What the project costs in time and memory, beside what people do otherwise and what the machine allows."""
