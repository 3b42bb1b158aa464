"""What training needs and no framework has a part in: settings, schedules, pools, draws; written once for both."""
